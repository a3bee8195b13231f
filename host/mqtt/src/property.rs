//! Properties (§2.2.2): which packet may carry which, checked once and then read in place.
//!
//! A list of properties stays the bytes that it came as, in its order, so forwarding one is a
//! copy and nothing is lost or moved.

use core::fmt;

use crate::wire::{Reader, put_binary, put_varint, varint_bytes};
use crate::{DecodeError, EncodeError, Fault, Limits, TopicName};

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident($type:ty) = $id:literal in $packets:expr, $read:ident, $write:ident;)*) => {
        /// One property with its value (§2.2.2.2, table 2-4).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the standard's")]
        pub enum Property<'a> { $($(#[$doc])* $name($type),)* }

        impl<'a> Property<'a> {
            fn read(id: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match id {
                    $($id => reader.$read().map(Self::$name),)*
                    _ => Err(DecodeError::malformed("unknown property identifier", "2.2.2.2")),
                }
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                match *self {
                    $(Self::$name(value) => { out.push($id); $write(out, value) })*
                }
            }
        }

        /// The lists in which a property may stand, as bits of [`List`].
        const fn lists_of(id: u8) -> u16 {
            match id { $($id => $packets,)* _ => 0 }
        }
    };
}

/// A property list by the packet that carries it; the CONNECT's will has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum List {
    Connect = 1,
    Will = 1 << 1,
    Connack = 1 << 2,
    Publish = 1 << 3,
    Acknowledgement = 1 << 4,
    Subscribe = 1 << 5,
    Suback = 1 << 6,
    Unsubscribe = 1 << 7,
    Unsuback = 1 << 8,
    Disconnect = 1 << 9,
    Auth = 1 << 10,
}

const CONNECT: u16 = List::Connect as u16;
const WILL: u16 = List::Will as u16;
const CONNACK: u16 = List::Connack as u16;
const PUBLISH: u16 = List::Publish as u16;
const SUBSCRIBE: u16 = List::Subscribe as u16;
const DISCONNECT: u16 = List::Disconnect as u16;
const AUTH: u16 = List::Auth as u16;
const ANSWERS: u16 = CONNACK
    | List::Acknowledgement as u16
    | List::Suback as u16
    | List::Unsuback as u16
    | DISCONNECT
    | AUTH;
const ALL: u16 = u16::MAX;

properties! {
    PayloadFormatIndicator(u8) = 0x01 in PUBLISH | WILL, u8, put_u8;
    /// Seconds.
    MessageExpiryInterval(u32) = 0x02 in PUBLISH | WILL, u32, put_u32;
    ContentType(&'a str) = 0x03 in PUBLISH | WILL, string, put_string;
    ResponseTopic(&'a str) = 0x08 in PUBLISH | WILL, string, put_string;
    CorrelationData(&'a [u8]) = 0x09 in PUBLISH | WILL, binary, put_binary;
    SubscriptionIdentifier(u32) = 0x0B in PUBLISH | SUBSCRIBE, varint, put_varint_u32;
    /// Seconds; 0xFFFFFFFF does not expire.
    SessionExpiryInterval(u32) = 0x11 in CONNECT | CONNACK | DISCONNECT, u32, put_u32;
    AssignedClientIdentifier(&'a str) = 0x12 in CONNACK, string, put_string;
    /// Seconds.
    ServerKeepAlive(u16) = 0x13 in CONNACK, u16, put_u16;
    AuthenticationMethod(&'a str) = 0x15 in CONNECT | CONNACK | AUTH, string, put_string;
    AuthenticationData(&'a [u8]) = 0x16 in CONNECT | CONNACK | AUTH, binary, put_binary;
    RequestProblemInformation(u8) = 0x17 in CONNECT, u8, put_u8;
    /// Seconds.
    WillDelayInterval(u32) = 0x18 in WILL, u32, put_u32;
    RequestResponseInformation(u8) = 0x19 in CONNECT, u8, put_u8;
    ResponseInformation(&'a str) = 0x1A in CONNACK, string, put_string;
    ServerReference(&'a str) = 0x1C in CONNACK | DISCONNECT, string, put_string;
    ReasonString(&'a str) = 0x1F in ANSWERS, string, put_string;
    ReceiveMaximum(u16) = 0x21 in CONNECT | CONNACK, u16, put_u16;
    TopicAliasMaximum(u16) = 0x22 in CONNECT | CONNACK, u16, put_u16;
    TopicAlias(u16) = 0x23 in PUBLISH, u16, put_u16;
    MaximumQoS(u8) = 0x24 in CONNACK, u8, put_u8;
    RetainAvailable(u8) = 0x25 in CONNACK, u8, put_u8;
    UserProperty((&'a str, &'a str)) = 0x26 in ALL, string_pair, put_string_pair;
    /// Bytes.
    MaximumPacketSize(u32) = 0x27 in CONNECT | CONNACK, u32, put_u32;
    WildcardSubscriptionAvailable(u8) = 0x28 in CONNACK, u8, put_u8;
    SubscriptionIdentifierAvailable(u8) = 0x29 in CONNACK, u8, put_u8;
    SharedSubscriptionAvailable(u8) = 0x2A in CONNACK, u8, put_u8;
}

const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const USER_PROPERTY: u8 = 0x26;
const IDENTIFIERS: usize = 0x2B;

impl<'a> Reader<'a> {
    fn string_pair(&mut self) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((self.string()?, self.string()?))
    }
}

type Written = Result<(), EncodeError>;

fn put_u8(out: &mut Vec<u8>, value: u8) -> Written {
    out.push(value);
    Ok(())
}

fn put_u16(out: &mut Vec<u8>, value: u16) -> Written {
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

fn put_u32(out: &mut Vec<u8>, value: u32) -> Written {
    out.extend_from_slice(&value.to_be_bytes());
    Ok(())
}

fn put_varint_u32(out: &mut Vec<u8>, value: u32) -> Written {
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    if value > crate::REMAINING_LENGTH_MAX {
        return Err(EncodeError::NotInVersion {
            what: "a subscription identifier above 268435455",
        });
    }
    put_varint(out, value);
    Ok(())
}

fn put_string(out: &mut Vec<u8>, value: &str) -> Written {
    put_binary(out, value.as_bytes())
}

fn put_string_pair(out: &mut Vec<u8>, (name, value): (&str, &str)) -> Written {
    put_string(out, name)?;
    put_string(out, value)
}

/// What a value must be beyond its type.
fn check_value(property: &Property<'_>, list: List) -> Result<(), DecodeError> {
    let fault = match *property {
        Property::PayloadFormatIndicator(value)
        | Property::RequestProblemInformation(value)
        | Property::RequestResponseInformation(value)
        | Property::MaximumQoS(value)
        | Property::RetainAvailable(value)
        | Property::WildcardSubscriptionAvailable(value)
        | Property::SubscriptionIdentifierAvailable(value)
        | Property::SharedSubscriptionAvailable(value)
            if value > 1 =>
        {
            DecodeError::protocol("a property that is 0 or 1 has another value", "2.2.2.2")
        }
        Property::ReceiveMaximum(0) => DecodeError::protocol("receive maximum is 0", "3.1.2.11.3"),
        Property::MaximumPacketSize(0) => {
            DecodeError::protocol("maximum packet size is 0", "3.1.2.11.4")
        }
        Property::SubscriptionIdentifier(0) => {
            DecodeError::protocol("subscription identifier is 0", "3.8.2.1.2")
        }
        Property::TopicAlias(0) => DecodeError {
            fault: Fault::TopicAliasInvalid,
            what: "topic alias is 0",
            statement: "MQTT-3.3.2-8",
        },
        Property::ResponseTopic(topic) if TopicName::parse(topic).is_err() => {
            let statement = if list == List::Will { "3.1.3.2.5" } else { "MQTT-3.3.2-14" };
            DecodeError::protocol("response topic is no topic name", statement)
        }
        _ => return Ok(()),
    };
    Err(fault)
}

/// A property list that was checked: identifiers, types, values, repetition, length.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No property. On MQTT 3.1.1 every list is this one.
    pub const NONE: Self = Self { bytes: &[] };

    /// Reads a property length and the properties of `list` behind it.
    #[inline]
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        list: List,
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let length = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
        let bytes = reader.take(length)?;
        if !bytes.is_empty() {
            check(bytes, list, limits)?;
        }
        Ok(Self { bytes })
    }

    /// Whether there is no property.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties in their order.
    #[must_use]
    pub const fn iter(&self) -> PropertyIter<'a> {
        PropertyIter { reader: Reader::new(self.bytes) }
    }

    /// The first value that `pick` finds: `properties.find(|p| match p { … })`.
    pub fn find<T>(&self, pick: impl FnMut(Property<'a>) -> Option<T>) -> Option<T> {
        self.iter().find_map(pick)
    }

    /// The user properties in their order, names may repeat [MQTT-3.3.2-18].
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        })
    }

    /// Bytes that the list takes with its length in front.
    #[inline]
    pub(crate) const fn wire_bytes(&self) -> usize {
        varint_bytes(self.bytes.len()) + self.bytes.len()
    }

    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bytes.len());
        out.extend_from_slice(self.bytes);
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = PropertyIter<'a>;

    fn into_iter(self) -> PropertyIter<'a> {
        self.iter()
    }
}

fn check(bytes: &[u8], list: List, limits: &Limits) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut seen = [false; IDENTIFIERS];
    let mut user_properties = 0_u16;
    while !reader.is_empty() {
        let id = u8::try_from(reader.varint()?).unwrap_or(u8::MAX);
        if lists_of(id) == 0 {
            return Err(DecodeError::malformed("unknown property identifier", "2.2.2.2"));
        }
        if lists_of(id) & list as u16 == 0 {
            return Err(DecodeError::malformed("property of another packet", "2.2.2.2"));
        }
        if id == USER_PROPERTY {
            if user_properties == limits.user_properties_max {
                return Err(DecodeError::quota("more user properties than the limit"));
            }
            user_properties += 1;
        } else if let Some(seen) = seen.get_mut(usize::from(id)) {
            let may_repeat = id == SUBSCRIPTION_IDENTIFIER && list == List::Publish;
            if core::mem::replace(seen, true) && !may_repeat {
                return Err(DecodeError::protocol("property stands twice", "2.2.2.2"));
            }
        }
        check_value(&Property::read(id, &mut reader)?, list)?;
    }
    Ok(())
}

/// Where the value of the message expiry interval stands in a checked list.
pub(crate) fn expiry_interval_in(list: &[u8]) -> Option<usize> {
    const VALUE_BYTES: usize = 4;
    let mut reader = Reader::new(list);
    while !reader.is_empty() {
        let id = u8::try_from(reader.varint().ok()?).ok()?;
        if let Property::MessageExpiryInterval(_) = Property::read(id, &mut reader).ok()? {
            return Some(list.len() - reader.rest().len() - VALUE_BYTES);
        }
    }
    None
}

/// Iterator over a checked list.
#[derive(Debug, Clone)]
pub struct PropertyIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let id = self.reader.u8().ok()?;
        // The list was checked when it was read or built, so this ends with the bytes.
        Property::read(id, &mut self.reader).ok()
    }
}

/// A property list in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
}

impl PropertiesBuf {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends a property. Which packet may carry it is the caller's to know.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`] for a string or binary value above 65,535 bytes; the list
    /// is then as it was.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        crate::wire::all_or_nothing(&mut self.bytes, |bytes| property.write(bytes))
    }

    /// Reads the list of a PUBLISH from the bytes that [`Self::as_bytes`] gave, to keep it.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no such list.
    pub fn of_publish(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        check(&bytes, List::Publish, &Limits::STANDARD)?;
        Ok(Self { bytes })
    }

    /// The list as it is encoded, without its length.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Bytes of the list, without its length.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The list as a packet carries it.
    #[must_use]
    pub const fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: self.bytes.as_slice() }
    }
}

impl<'a> FromIterator<Property<'a>> for PropertiesBuf {
    /// Collects properties; one that cannot be encoded is left out.
    fn from_iter<I: IntoIterator<Item = Property<'a>>>(properties: I) -> Self {
        let mut list = Self::new();
        for property in properties {
            let _too_long = list.push(property);
        }
        list
    }
}
