"""Batches that another machine reads and prepares, in the order that they have here."""

import tensorflow as tf

from tf_mmvae.training.workers import answers


def served(batches, address):
  """The same batches, read by the tf.data service at an address.

  The service is given the data that they are read from: those in memory are sent to it once, and
  those that Python reads cannot be served.

  Args:
    batches: an infinite `tf.data.Dataset`.
    address: "HOST:PORT" of a dispatcher that has one worker; several would mix the order.

  Raises:
    ValueError: nothing answers there.
    tf.errors.InvalidArgumentError: from the batches, if they come in another order.
  """
  if not answers(address):
    raise ValueError(f"no tf.data service answers at '{address}': start its dispatcher and its "
                     "worker first, and give \"HOST:PORT\"")
  numbered = batches.enumerate().apply(
      tf.data.experimental.service.distribute("parallel_epochs", f"grpc://{address}"))
  return in_order(numbered, address)


def in_order(numbered, address):
  """The batches of (number, batch), which raise an error once the numbers are not 0, 1, 2..."""
  said = (f"the tf.data service at {address} gave batches in another order: it must have one "
          "worker alone")

  def check(expected, of_service):
    number, batch = of_service
    with tf.control_dependencies([tf.debugging.Assert(number == expected, [said])]):
      return tf.nest.map_structure(tf.identity, batch)

  return numbered.enumerate().map(check)
