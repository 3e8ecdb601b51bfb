# Two commands do all the set-up on a fresh machine: make train, make test.
PYTHON ?= python3
VENV ?= .venv
ARGS ?= task=Go1Push algo=HAPPO num_envs=4096

.PHONY: train test docs audit venv clean

train: venv
	$(VENV)/bin/python train.py $(ARGS)

test: venv
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # two processes: tests keep to one thread each

docs: venv
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs site

audit: venv  # known holes of the packages that are installed, and suspicious code: docs/security.md
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install -q --disable-pip-version-check pip-audit bandit
	.audit/bin/pip-audit --progress-spinner off --skip-editable --path $$($(VENV)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
	.audit/bin/bandit -q -c .bandit.yaml -r happo_gpu examples train.py

venv: $(VENV)/.installed

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-compile -c constraints.txt -e ".[test,figures]"
	-$(VENV)/bin/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1  # on all cores, where pip takes one; some packages bring files that are no Python
	touch $@

clean:
	rm -rf $(VENV) .audit site *.egg-info .pytest_cache
