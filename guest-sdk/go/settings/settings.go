// Package settings reads the settings of the plugin's manifest.
package settings

import (
	"fmt"
	"strconv"

	"portreeve"
	"portreeve/internal/host"
)

// Get gives the value of a setting, and whether the manifest has it. What is not text there
// arrives as JSON.
func Get(key string) (string, bool) {
	if value := host.Setting(key); value != nil {
		return *value, true
	}
	return "", false
}

// Require gives the value of a setting that the plugin cannot do without; the error names it.
func Require(key string) (string, error) {
	value, found := Get(key)
	if !found {
		return "", fmt.Errorf("the manifest's [settings] has no `%s`", key)
	}
	return value, nil
}

// IntOr gives a setting as a whole number, or otherwise where the manifest does not have it.
func IntOr(key string, otherwise int64) (int64, error) {
	text, found := Get(key)
	if !found {
		return otherwise, nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the setting `%s` is %q", key, text)
	}
	return number, nil
}

// All gives every setting, in the order of the keys.
func All() portreeve.Properties { return host.Settings() }
