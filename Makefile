# make demo          export the sample model, ask it questions, print a table of its accuracy
# make test          run the tests that a change needs
# make test-all      run every test (make test-extended: only those that make test leaves out)
# make lint          check formatting, lint and types
# make format        format the code
# make docs          write the generated parts of docs/
# make gpu-check     run everything that needs an NVIDIA device, with what is installed
# make bench         compare with Hugging Face transformers (minutes; real size: docs/benchmarks.md)
# make bench-export  export a 7B model and copy it, for comparison (30 GB of disk, minutes)
# make clean         remove what was built
#
# Needs Python 3.11 or later with venv and pip. If pip would download the CUDA build of torch, these
# targets stop first and explain how to name an index that has the CPU build.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
PIP_FLAGS := -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
IMAGE := samples/images/scene.png
# On models this small, threads mostly wait for each other: one for each test process.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --max-worker-restart 0

.PHONY: demo test test-all test-extended lint format docs bench bench-export gpu-check clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip

$(VENV)/demo.stamp: $(BIN)/python pyproject.toml constraints.txt
	@$(BIN)/python .ci/check_torch.py $(PIP_FLAGS)
	$(PIP) install --quiet $(PIP_FLAGS) -e '.[cpu,export,cli]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	$(PIP) install --quiet $(PIP_FLAGS) -e '.[dev]'
	@touch $@

demo: $(VENV)/demo.stamp
	$(BIN)/vtp export tiny --keep 0.1 --out $(OUT)/tiny --force
	@for keep in 1.0 0.5 0.25 0.1 0.05; do \
	    for prompt in "what number is shown?" "where is the blue circle?"; do \
	        echo "keep $$keep: $$prompt"; \
	        $(BIN)/vtp run $(OUT)/tiny --image $(IMAGE) --prompt "$$prompt" --keep $$keep || exit 1; \
	    done; \
	done
	$(BIN)/vtp run $(OUT)/tiny --image $(IMAGE) --prompt "describe the picture." --keep 0.1 \
	    --save-overlay $(OUT)/kept.png
	$(BIN)/vtp export tiny --method random --out $(OUT)/tiny-random --force
	$(BIN)/vtp export tiny --method uniform --out $(OUT)/tiny-uniform --force
	$(BIN)/python -m vtp.samples.evaluate --count 60 fastervlm=$(OUT)/tiny \
	    random=$(OUT)/tiny-random uniform=$(OUT)/tiny-uniform

test: $(VENV)/dev.stamp
	$(TEST) -m "not extended"

test-extended: $(VENV)/dev.stamp
	$(TEST) -m extended

test-all: $(VENV)/dev.stamp
	$(TEST)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(VENV)/types && ln -sfn "$(CURDIR)" $(VENV)/types/vtp
	cd $(VENV)/types && ../bin/mypy --config-file vtp/pyproject.toml -m vtp.cli \
	    -p vtp.calibration -p vtp.commands -p vtp.errors -p vtp.export -p vtp.runtime \
	    -p vtp.trt_plugins -p vtp.samples -p vtp.bench

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/dev.stamp
	$(BIN)/python docs/make_cli.py
	$(BIN)/python docs/make_quotes.py
	$(BIN)/python docs/make_models.py
	$(BIN)/python docs/make_graphs.py

bench: $(VENV)/dev.stamp
	$(BIN)/python -m vtp.bench.compare --model tiny

bench-export: $(VENV)/dev.stamp
	$(BIN)/python -m vtp.bench.export --size 7b

gpu-check: $(VENV)/dev.stamp
	$(BIN)/python -m vtp.bench.gpu

clean:
	rm -rf build dist $(OUT) *.egg-info
