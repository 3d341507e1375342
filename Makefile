# Every target sees to .venv first: made where it is missing, made again where an earlier run broke off.
#
#   make test PEERS=1               also install torch, jax and autograd, and compare with them
#   make test EXTRAS=jit,cuda13     also install these extras of pyproject.toml
#   make test PYTHON=python3.12     that interpreter; otherwise the newest on PATH
#   make test ARGS="-k softmax"     more arguments for pytest (or for `gpugrad bench`)

PYTHON ?=
PEERS ?=
EXTRAS ?=
ARGS ?=

comma := ,
more := $(if $(PEERS),$(comma)peers)$(if $(EXTRAS),$(comma)$(EXTRAS))
venv := PYTHON="$(PYTHON)" sh tools/venv.sh
py := .venv/bin/python
# What runs again through gg.compile: see tests/compiled_mode.py.
quick_compiled := tests/graph tests/nn tests/numpy
compiled := $(quick_compiled) tests/rules $(addprefix tests/test_,$(addsuffix .py,bad_input function lecture random random_programs))
pytest := $(py) -m pytest --no-header --tb=short -rfEs

.PHONY: help bench gpu test test-all peers lint clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bench: ## time the quick cases, then train on handwritten digits
	@$(venv) cli$(more)
	.venv/bin/gpugrad bench --quick $(if $(PEERS),--against torch$(comma)jax$(comma)autograd) $(ARGS)
	.venv/bin/gpugrad train digits

gpu: ## on a machine with a GPU: test, compare with the simulated device, time, record
	@$(venv) cli,test,cuda13$(more)
	$(py) -m gpugrad.bench gpu $(ARGS)

test: ## run the tests, slow ones excepted
	@$(venv) test$(more)
	$(pytest) -m "not slow" $(ARGS)
	$(pytest) -m "not slow" --compiled numpy $(ARGS) $(quick_compiled) || test $$? -eq 5  # none of them chosen by ARGS

test-all: ## run every test
	@$(venv) test$(more)
	$(pytest) $(ARGS)
	for backend in numpy llvm; do \
		$(pytest) --compiled $$backend $(ARGS) $(compiled) || test $$? -eq 5 || exit 1; \
	done

peers: ## install torch, jax and autograd beside gpugrad, for comparisons
	@$(venv) test,peers

# mypy doesn't follow an editable install's import hook: it is shown the package as it will be installed.
lint: ## ruff, and mypy on gpugrad with its kernels and benchmarks
	@$(venv) dev$(more)
	$(py) -m ruff check --output-format concise .
	@rm -rf build/types && mkdir -p build/types/gpugrad
	@cd build/types/gpugrad && ln -s ../../../gpugrad/* ../../../kernels ../../../bench .
	cd build/types && ../../$(py) -m mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

clean: ## remove what builds and tools left behind, but not .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gpugrad kernels bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	rm -rf .venv
