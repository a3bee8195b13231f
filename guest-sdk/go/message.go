package portreeve

import "strings"

// Message is an application message. On MQTT 3.1.1 the optional fields are nil.
type Message struct {
	// Topic is a topic name: 1 to 65,535 bytes, no wildcard.
	Topic string
	// Payload has at most the gateway's packet limit, 1 MiB by default.
	Payload []byte
	// PayloadFormat is the sender's claim, unchecked.
	PayloadFormat PayloadFormat
	QoS           QoS
	Retain        bool
	ContentType   *string
	// ResponseTopic is a topic name.
	ResponseTopic   *string
	CorrelationData []byte
	// MessageExpiryInterval is the seconds that remain.
	MessageExpiryInterval *uint32
	UserProperties        Properties
}

// PayloadFormat is the payload format indicator of MQTT 5.
type PayloadFormat uint8

const (
	// NoPayloadFormat: the message has no indicator.
	NoPayloadFormat PayloadFormat = iota
	UnspecifiedBytes
	UTF8
)

// QoS is the quality of service: 0, 1, 2.
type QoS uint8

const (
	AtMostOnce QoS = iota
	AtLeastOnce
	ExactlyOnce
)

// TopicLevels gives the levels of the topic.
func (message Message) TopicLevels() []string { return strings.Split(message.Topic, "/") }

// SiblingTopic gives the topic with level in place of its last level.
func (message Message) SiblingTopic(level string) string {
	return message.Topic[:strings.LastIndexByte(message.Topic, '/')+1] + level
}

// With gives the same message to another topic, with another payload. Payload format and content
// type described the old payload and are cleared.
func (message Message) With(topic string, payload []byte) Message {
	message.Topic, message.Payload = topic, payload
	message.PayloadFormat, message.ContentType = NoPayloadFormat, nil
	return message
}

// JSON marks the payload as JSON: UTF-8, application/json.
func (message Message) JSON() Message {
	message.PayloadFormat, message.ContentType = UTF8, new("application/json")
	return message
}

// Context says under which circumstances a message came.
type Context struct {
	// Direction is a property of the binding, whoever publishes.
	Direction Direction
	// Device is the publisher.
	Device Device
	// Gateway is its name in the configuration.
	Gateway string
	// ReceivedAt is milliseconds since the Unix epoch.
	ReceivedAt uint64
}

// Direction is which way a message goes.
type Direction uint8

const (
	// Up is from a device to the platform.
	Up Direction = iota
	// Down is from the platform to a device.
	Down
)

// Device is a registered device.
type Device struct {
	// Name is 4 to 64 of A-Z a-z 0-9 - _ @ . :
	Name string
	// Product is the one that it belongs to.
	Product string
	// ClientID is that of its session.
	ClientID string
	// Attributes are those of its registry entry.
	Attributes Properties
}

// Outcome is the answer of a parser: Pass, Replace, Drop or Reject.
type Outcome interface{ isOutcome() }

// Pass delivers the message as it came.
type Pass struct{}

// Replace delivers these messages instead, in their order; at most 64. Topics lie under the
// binding's may_publish.
type Replace []Message

// Drop acknowledges the message and delivers nothing.
type Drop struct{}

// Reject says that the payload is not what it should be. The text goes to the log and, on MQTT 5,
// to the peer.
type Reject string

func (Pass) isOutcome()    {}
func (Replace) isOutcome() {}
func (Drop) isOutcome()    {}
func (Reject) isOutcome()  {}
