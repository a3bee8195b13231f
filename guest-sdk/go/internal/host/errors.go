package host

import (
	"errors"
	"strconv"
)

var (
	errKey         = errors.New("state: the key is no UTF-8")
	errNotACounter = errors.New("state: the entry is no counter")
)

func keyTooLong(bytes uint64) error   { return beyond("the key is longer than ", bytes) }
func valueTooLong(bytes uint64) error { return beyond("the value is longer than ", bytes) }
func full(bytes uint64) error         { return beyond("the entries would exceed ", bytes) }

func beyond(text string, bytes uint64) error {
	return errors.New("state: " + text + strconv.FormatUint(bytes, 10) + " bytes")
}
