# Portreeve: `make` lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help

EXAMPLES := allow-list hmac-password https-verifier sensor-frame json-to-fields
GUEST_BUILD := target/guests/wasm32-wasip2/guest
PLUGINS := target/plugins

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '$$1 !~ /setup-check/ {printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Install what is missing: the Wasm target, mosquitto's clients
	@./tools/setup

.PHONY: setup-check
setup-check:
	@./tools/setup check

.PHONY: guests
guests: setup ## Build the example plugins into target/plugins
	@cargo build --quiet --profile guest --target wasm32-wasip2 --target-dir target/guests $(addprefix -p ,$(EXAMPLES))
	@mkdir -p $(PLUGINS)
	@for name in $(EXAMPLES); do \
		cp $(GUEST_BUILD)/$${name//-/_}.wasm $(PLUGINS)/.$$name.partial && mv $(PLUGINS)/.$$name.partial $(PLUGINS)/$$name.wasm && \
		cp plugins-examples/$$name/$$name.toml $(PLUGINS)/$$name.toml; \
	done

.PHONY: script-plugins
script-plugins: setup ## Build the plugins that run scripts into target/script-plugins
	@./tools/build-script-plugins

.PHONY: run
run: guests ## Run the development gateway on port 1883 with the example plugins
	@cargo build --release --quiet -p portreeve
	@echo
	@echo "The gateway listens on 127.0.0.1:1883. In a second shell, watch what the parser makes:"
	@echo "  mosquitto_sub -V 5 -u app -P demo -t 'devices/+/telemetry'"
	@echo "and in a third one, be a device that sends a frame of six bytes:"
	@echo "  printf '\\x08\\x66\\x11\\xc6\\x0c\\xe4' | mosquitto_pub -V 311 -u device-1 -P demo -t devices/device-1/raw -s"
	@echo "ctrl-c ends it."
	@echo
	@exec target/release/portreeve run --plugins $(PLUGINS) --data target/data

.PHONY: test
test: guests ## Run all tests
	@cargo test --workspace --lib --bins --tests --examples
	@cargo test --workspace --doc
	@./tools/test-sdks

.PHONY: check
check: setup setup-check ## Formatting, lints, documentation, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
	cargo deny check bans licenses sources

.PHONY: audit
audit: setup setup-check ## Advisories about dependencies (needs their database)
	cargo deny check advisories

.PHONY: bench
bench: guests script-plugins ## Measure codec, plugin runtime and gateway, the latter beside mosquitto, and what verifiers and scripts add
	cargo bench -p portreeve-mqtt --bench codec
	cargo bench -p portreeve-plugin --bench calls
	cargo build --release -p portreeve -p portreeve-tests
	target/release/portreeve-load compare
	# A target that is missed here, which the tool tells, keeps nothing else from being measured.
	-target/release/portreeve-load tls
	-target/release/portreeve-load verifiers
	target/release/portreeve-load spin
	target/release/portreeve-load hang
	target/release/portreeve-load durable
	target/release/portreeve-load scale

.PHONY: acceptance-mqtt
acceptance-mqtt: guests ## The long runs of MQTT and the store, with a table at the end
	@./tools/acceptance-mqtt

.PHONY: acceptance-plugins
acceptance-plugins: guests ## The long runs of the plugin runtime and of each language, with a table at the end
	@./tools/acceptance-plugins

.PHONY: acceptance-tls
acceptance-tls: guests ## The long runs of TLS, with a table at the end
	@./tools/acceptance-tls

.PHONY: acceptance-devices
acceptance-devices: guests script-plugins ## The long runs of devices and verification, with a table at the end
	@./tools/acceptance-devices

FUZZ_SECONDS ?= 600
.PHONY: fuzz
fuzz: ## Fuzz the codec (FUZZ_SECONDS for each target)
	@./tools/fuzz $(FUZZ_SECONDS)
