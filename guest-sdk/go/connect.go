package portreeve

// Connect is what a peer said of itself in CONNECT. Nothing of it is proven but the certificate.
type Connect struct {
	Connection Connection
	// ClientID is empty where the gateway is to assign one.
	ClientID string
	UserName *string
	// Password is binary data, at most 65,535 bytes.
	Password []byte
	// CleanStart is MQTT 3.1.1's clean session.
	CleanStart bool
	// KeepAlive is in seconds; 0 turns it off.
	KeepAlive uint16
	// AuthenticationMethod is that of MQTT 5 enhanced authentication.
	AuthenticationMethod *string
	// AuthenticationData is that of the CONNECT, or of the latest AUTH.
	AuthenticationData []byte
	// UserProperties are those of MQTT 5.
	UserProperties Properties
}

// Connection says where and how the peer connected.
type Connection struct {
	// ID is unique while the gateway runs; the same in every step of one CONNECT.
	ID uint64
	// Gateway is its name in the configuration.
	Gateway string
	// PeerAddress has a port: "192.0.2.7:50123" or "[2001:db8::7]:50123".
	PeerAddress string
	Protocol    Protocol
	// TLS is nil on a plain connection.
	TLS *TLS
}

// Protocol is the version that the peer asked for.
type Protocol uint8

const (
	MQTT31 Protocol = iota
	MQTT311
	MQTT5
)

// TLS is the TLS session of a connection.
type TLS struct {
	// Version is "1.2" or "1.3".
	Version string
	// CipherSuite is the IANA name, such as "TLS_AES_128_GCM_SHA256".
	CipherSuite string
	// ServerName is the one that the peer asked for, in lower case.
	ServerName *string
	// Certificate is there on mutual TLS only.
	Certificate *Certificate
}

// Certificate is the peer's end-entity certificate. The gateway has verified it.
type Certificate struct {
	// Subject is an RFC 4514 string, such as "CN=device-1,O=Example".
	Subject string
	// CommonName is the most specific one of the subject.
	CommonName *string
	// DNSNames, URIs and EmailAddresses are those of the subject alternative name.
	DNSNames, URIs, EmailAddresses []string
	// Issuer is an RFC 4514 string.
	Issuer string
	// SerialNumber is lower-case hex without a leading zero byte.
	SerialNumber string
	// NotBefore and NotAfter are seconds since the Unix epoch.
	NotBefore, NotAfter int64
	// Fingerprint is the SHA-256 of the DER encoding, 64 digits of lower-case hex.
	Fingerprint string
	Revocation  Revocation
	// DER is the encoding, for what the fields above do not carry.
	DER []byte
	// Chain is the verified chain above it in DER, trust anchor last.
	Chain [][]byte
}

// Revocation is what the gateway knows of a certificate's revocation.
type Revocation uint8

const (
	RevocationGood Revocation = iota
	RevocationRevoked
	RevocationUnknown
	RevocationNotChecked
)

// Verdict is the answer of a verifier: an Admission, a Refusal or a Challenge.
type Verdict interface{ isVerdict() }

// Admission lets the peer in: who the device is and what it may do.
type Admission struct {
	// DeviceName is 4 to 64 of A-Z a-z 0-9 - _ @ . :
	DeviceName string
	// Product is the gateway's own where it is empty.
	Product string
	// Attributes are kept in the registry and given to parsers; at most 64, of 1 KiB each.
	Attributes Properties
	// Permissions are the gateway's own rules where this is nil; see Only.
	Permissions *[]Permission
	// ExpiresIn is in seconds, until the session ends or is verified again; 0 is never.
	ExpiresIn uint32
	// CacheFor is in seconds, for which the verdict may be reused for an equal request; 0 is none.
	CacheFor uint32
	// AuthenticationData is the last word of an enhanced authentication, sent with CONNACK.
	AuthenticationData []byte
}

// Admit lets the peer in as the device of this name, with the gateway's own rules.
func Admit(deviceName string) Admission { return Admission{DeviceName: deviceName} }

// Only permits these and nothing else; without any, it permits nothing.
func Only(permissions ...Permission) *[]Permission { return &permissions }

// Permission is a topic filter that the device may use. %d, %c and %u in it stand for device name,
// client identifier and user name.
type Permission struct {
	Action      Action
	TopicFilter string
}

// Action is what a permission permits.
type Action uint8

const (
	Publish Action = iota
	Subscribe
	PublishAndSubscribe
)

// Refusal turns the peer away.
type Refusal struct {
	Reason RefusalReason
	// Message is for the log and, on MQTT 5, for the peer. No secrets.
	Message string
	// ServerReference is space-separated "host:port", for UseAnotherServer; none where it is empty.
	ServerReference string
}

// RefusalReason decides the reason code; in brackets the answers on MQTT 5 and MQTT 3.1.1.
type RefusalReason uint8

const (
	// BadUserNameOrPassword (0x86, 5): an unknown user name or a wrong password.
	BadUserNameOrPassword RefusalReason = iota
	// NotAuthorized (0x87, 5): known, but not allowed here or now.
	NotAuthorized
	// Banned (0x8A, 5).
	Banned
	// ServerBusy (0x89, 3): try again later.
	ServerBusy
	// QuotaExceeded (0x97, 3).
	QuotaExceeded
	// UseAnotherServer (0x9C, 3): go to the server reference.
	UseAnotherServer
)

// Refuse turns the peer away with a reason and a text.
func Refuse(reason RefusalReason, message string) Refusal {
	return Refusal{Reason: reason, Message: message}
}

// Challenge sends AUTH with this data, in MQTT 5 enhanced authentication only. The peer's answer
// comes as another call, maybe to another instance: keep what is needed in the state, with a ttl.
type Challenge []byte

func (Admission) isVerdict() {}
func (Refusal) isVerdict()   {}
func (Challenge) isVerdict() {}
