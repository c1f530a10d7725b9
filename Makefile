# SPDX-License-Identifier: Apache-2.0
# Thin on purpose: everything is in tox.ini, this only sees to it that there is a tox.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first that is new enough and can make a virtual environment; 3.11 is what constraints.txt was
# made on. Another one: make PYTHON=/path/to/python3 test
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
TOX := .venv/bin/tox
# make NOVA=nova31,nova32 test-nova
NOVA ?= nova29,nova34,nova-own
E2E_PACKAGES := $(shell sed -n 's/ *\[platform:dpkg e2e\]$$//p' bindep.txt)
# make E2E=e2e e2e: the hosts alone; E2E=cloud: the cloud alone
E2E ?= e2e,cloud

.PHONY: help test test-oldest test-devstack test-nova e2e demo docs genconfig build bench \
	constraints mutants clean

help:  ## This list
	@echo 'Each target makes what it needs first, in .venv and .tox (delete them with "make clean").'
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 20
	@echo 'One environment or one test: $(TOX) run -e py3 -- tests/unit -k conflict'

$(TOX): constraints.txt
	@test -n '$(PYTHON)' || { echo 'Needs Python 3.11 or newer with its venv module (Debian:' \
		'python3.11 and python3.11-venv); none was found on PATH.' \
		'Name one with PYTHON=/path/to/python3.' >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt tox
	@touch $(TOX)

test: $(TOX)  ## Style and types, unit tests, functional tests: what a change must pass
	$(TOX) run -m test

test-oldest: $(TOX)  ## The unit tests with the oldest supported versions; needs a C compiler
	$(TOX) run -e oldest

test-devstack: $(TOX)  ## The devstack plugin, against stubs of devstack's functions
	$(TOX) run -e devstack

test-nova: $(TOX)  ## The scheduler's side inside the oldest and the newest Nova, and Nova's own tests
	$(TOX) run-parallel --parallel 2 --parallel-no-spinner -e $(NOVA)

e2e: $(TOX)  ## Real libvirt hosts, then a whole cloud, on this machine; needs root and Debian
	@test "$$(id -u)" != 0 || dpkg -s $(E2E_PACKAGES) >/dev/null 2>&1 || { \
		p=/usr/sbin/policy-rc.d; test -e $$p || { printf '#!/bin/sh\nexit 101\n' >$$p && \
		chmod +x $$p && trap "rm -f $$p" EXIT; }; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends $(E2E_PACKAGES); }
	$(TOX) run -e $(E2E)

demo: $(TOX)  ## A guided tour of the agent against a real Placement, in a minute
	$(TOX) run -q -e demo

docs: $(TOX)  ## The documentation in doc/build/html, man pages in doc/build/man
	$(TOX) run -e docs

genconfig: $(TOX)  ## A sample of every option, in etc/fbm-placement.conf.sample
	$(TOX) run -e genconfig

build: $(TOX)  ## Tries an sdist and a wheel in an empty environment; keeps neither
	$(TOX) run -e build

bench: $(TOX)  ## What a pass costs, next to its budget
	$(TOX) run -q -e bench

constraints: $(TOX)  ## The newest versions that fit together, into constraints*.txt
	$(TOX) run -e constraints,constraints-nova29

mutants: $(TOX)  ## Faults put into the rules one by one: how many do the tests notice?
	$(TOX) run -q -e mutants

clean:  ## Removes everything that is not in git and was made here
	rm -rf .venv .tox .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build cover dist \
		doc/build doc/source/cli/help doc/source/_static/*.sample releasenotes/build \
		releasenotes/notes/reno.cache etc/*.sample *.egg-info AUTHORS ChangeLog
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
