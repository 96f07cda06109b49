# Makes an environment of its own in $(VENV) and runs the main job or the tests in it.
PYTHON ?= python3
VENV ?= .venv

.PHONY: toy_birds test
toy_birds: $(VENV)/installed
	$(VENV)/bin/python tools/train.py --gin_file=gin/toy_birds.gin

test: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[test]'
	touch $@
