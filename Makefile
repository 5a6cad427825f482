# Two commands do everything on a fresh machine (Linux or macOS, Python 3.10 or newer):
#   make demo   install, train briefly on the sample set, detect there and in real films; look into runs/demo
#   make test   install, run every notebook as a test
# The rest is for those who change the notebooks.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
DEMO   ?= runs/demo

# where Python may not keep what it has compiled, each of the many processes below compiles PyTorch anew, which takes it five seconds
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test env export clean-notebooks readme sample site check-site help

help:
	@sed -n '1,5p' Makefile | sed 's/^# \{0,1\}//'

env: $(VENV)/.ready
$(VENV)/.ready: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@# Python compiles a module when it is first imported; compiling all of them here would take as long as the rest
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@# an independent Pd/Fa to check ours against; its bound on NumPy is older than the code needs
	$(BIN)/pip install --quiet --no-deps pyirstdmetrics==1.0.2
	@# nbdev 3 spells its commands with hyphens; offer the underscores too
	cd $(BIN) && for f in nbdev-*; do ln -sf $$f $$(echo $$f | tr - _); done
	touch $@

# the demo needs the library, training and films alone: half of what the notebooks and their tests need
$(VENV)/.demo: settings.ini setup.py pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[train,video]'
	touch $@

demo: $(VENV)/.demo
	@# what a stopped demo has done is not done again
	$(BIN)/mim-istd train data/sample $(if $(wildcard $(DEMO)/last.pt),--resume,--preset laptop --recipe sample) --out $(DEMO)
	$(BIN)/mim-istd evaluate data/sample --split test --weights $(DEMO)
	$(BIN)/mim-istd detect data/sample/images -o $(DEMO)/detections --weights $(DEMO)
	@# real films, by the weights of the package, which learned from real images
	$(BIN)/mim-istd detect data/films -o $(DEMO)/films --quiet
	@echo "Pictures and numbers: $(DEMO)/detections and, of real films, $(DEMO)/films; training log: $(DEMO)/log.csv"

# each notebook in a process of its own; TEST_FLAGS='--flags cuda' for cells that are left out otherwise
test: env
	$(BIN)/python .ci/test_notebooks.py $(TEST_FLAGS)

# the documentation, in _docs; needs no Quarto
site: env
	$(BIN)/python nbs/_site/build.py

# every page of it in a browser, on a desk and on a telephone
check-site: env
	$(BIN)/python .ci/check_site.py

export: env
	@cp -p pyproject.toml $(VENV)
	$(BIN)/nbdev_export
	@# it writes pyproject.toml even if nothing in there changes; then nothing is to be installed again
	@if cmp -s $(VENV)/pyproject.toml pyproject.toml; then cp -p $(VENV)/pyproject.toml .; fi

clean-notebooks: env
	$(BIN)/nbdev_clean

# index.ipynb is the README; paths in it are those of the folder above
readme: env
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown --stdout nbs/index.ipynb \
	  --TagRemovePreprocessor.enabled=True --TagRemovePreprocessor.remove_input_tags='{"remove-input"}' \
	  | sed 's#](images/#](nbs/images/#g; s#](\([0-9a-z_/]*\.ipynb[^)]*\))#](nbs/\1)#g; s#\.\./data/#data/#g; /^```$$/{N;s#^```\nfrom#```python\nfrom#}' | cat -s > README.md

sample: env
	$(BIN)/mim-istd synth data/sample --sample
