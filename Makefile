# Two commands do all the set-up on a fresh machine: make train, make test.
PYTHON ?= python3
VENV ?= .venv
ARGS ?= task=Go1Push algo=HAPPO num_envs=4096

.PHONY: train test docs venv clean

train: venv
	$(VENV)/bin/python train.py $(ARGS)

test: venv
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile  # two processes: tests keep to one thread each
	$(VENV)/bin/vermin -q -t=3.8- --no-tips --eval-annotations happo_gpu examples docs/examples train.py

docs: venv
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs site

venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test,figures]"
	touch $@

clean:
	rm -rf $(VENV) site *.egg-info .pytest_cache
