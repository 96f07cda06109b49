"""What pyproject.toml cannot say: gin/ is installed below the package, as tf_mmvae/gin/."""

import setuptools

setuptools.setup(
    packages=[*setuptools.find_packages(include=["tf_mmvae", "tf_mmvae.*"]),
              "tf_mmvae.gin", "tf_mmvae.gin.parts"],
    package_dir={"tf_mmvae.gin": "gin"},
    package_data={"": ["*.gin", "*.pyi", "py.typed"]})
