# A thin front for CMake.
help:
	@echo "see CMakePresets.json"
.PHONY: help
