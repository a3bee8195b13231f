// Package state is a small key-value space of the plugin's own, in memory, shared by its
// instances. It ends with the gateway. Keys have at most 256 bytes and are UTF-8, values 64 KiB,
// all together the manifest's limits.state_bytes. A ttl is in seconds; 0 keeps an entry until it is
// removed. Where a function fails, the state is as it was.
package state

import "portreeve/internal/host"

// Get gives the entry of a key, nil where there is none or its time is over.
func Get(key string) []byte { return host.StateGet(key) }

// Set stores an entry. It fails where key or value are too long or the space is full.
func Set(key string, value []byte, ttl uint32) error { return host.StateSet(key, value, ttl) }

// Remove removes an entry.
func Remove(key string) { host.StateRemove(key) }

// Increment adds to a counter and gives its new value; an absent one is 0, and the sum saturates.
// The ttl counts from the entry's creation. A counter is 8 bytes, little-endian, to Get.
func Increment(key string, by int64, ttl uint32) (int64, error) {
	return host.StateIncrement(key, by, ttl)
}
