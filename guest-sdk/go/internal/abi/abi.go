// Package abi lays out the contract's types as the canonical ABI has them in memory. An address is
// 32 bits wide, which a Go pointer is not.
package abi

// List is a list, a text too: where it starts and how many elements it has.
type List struct{ Start, Count uint32 }

type OptionList struct {
	Some  uint8
	Value List
}

type OptionU32 struct {
	Some  uint8
	Value uint32
}

type OptionByte struct{ Some, Value uint8 }

// Property is tuple<string, string>.
type Property struct{ Name, Value List }

type Certificate struct {
	Subject                        List
	CommonName                     OptionList
	DNSNames, URIs, EmailAddresses List
	Issuer, SerialNumber           List
	NotBefore, NotAfter            int64
	Fingerprint                    List
	Revocation                     uint8
	DER, Chain                     List
}

type OptionCertificate struct {
	Some  uint8
	Value Certificate
}

type TLS struct {
	Version, CipherSuite List
	ServerName           OptionList
	Certificate          OptionCertificate
}

type OptionTLS struct {
	Some  uint8
	Value TLS
}

type Connection struct {
	ID                   uint64
	Gateway, PeerAddress List
	Protocol             uint8
	TLS                  OptionTLS
}

type Connect struct {
	Connection           Connection
	ClientID             List
	UserName, Password   OptionList
	CleanStart           uint8
	KeepAlive            uint16
	AuthenticationMethod OptionList
	AuthenticationData   OptionList
	UserProperties       List
}

type Permission struct {
	Action      uint8
	TopicFilter List
}

type Admission struct {
	DeviceName          List
	Product             OptionList
	Attributes          List
	Permissions         OptionList
	ExpiresIn, CacheFor OptionU32
	AuthenticationData  OptionList
}

type Refusal struct {
	Reason          uint8
	Message         List
	ServerReference OptionList
}

type Device struct {
	Name, Product, ClientID List
	Attributes              List
}

type Context struct {
	Direction  uint8
	Device     Device
	Gateway    List
	ReceivedAt uint64
}

type Message struct {
	Topic, Payload             List
	PayloadFormat              OptionByte
	QoS, Retain                uint8
	ContentType, ResponseTopic OptionList
	CorrelationData            OptionList
	MessageExpiryInterval      OptionU32
	UserProperties             List
}

// ParseArguments are those of parse; verify has one only.
type ParseArguments struct {
	Context Context
	Message Message
}

// What an export returns is one of these. A discriminant is one byte; the others are not read.
type (
	AnswerAdmission struct {
		Failed, Kind uint32
		Admission    Admission
	}
	AnswerRefusal struct {
		Failed, Kind uint32
		Refusal      Refusal
	}
	AnswerList struct {
		Failed, Kind uint32
		List         List
	}
	AnswerError struct {
		Failed uint32
		Text   List
	}
)

// StateResult is what state.set and state.increment return; Value is the sum, or the
// discriminant of the error, whose number is Limit.
type StateResult struct {
	Failed uint8
	Value  int64
	Limit  uint64
}
