//! Extensions of a list (RFC 5280 §5.2).

use der::{Tag, TagNumber};

use super::CrlFault;
use crate::Certificate;
use crate::asn1::{Fields, boolean, constructed, primitive};

/// 2.5.29.18.
const ISSUER_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 18];
/// 2.5.29.20.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
/// 2.5.29.27.
const DELTA_CRL_INDICATOR: &[u8] = &[0x55, 0x1d, 27];
/// 2.5.29.28.
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 28];
/// 2.5.29.35. The issuer is proven by the signature, so that it need not be looked at.
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 35];
/// Names of a distribution point.
const NAMES_MAX: usize = 64;

/// What a list's extensions say.
#[derive(Debug, Default)]
pub(super) struct Extensions<'a> {
    /// The content of its INTEGER.
    pub(super) number: Option<&'a [u8]>,
    pub(super) scope: Scope,
}

/// Which certificates a list is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scope {
    kind: Kind,
    /// Only those that name one of these URLs as their distribution point.
    points: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    All,
    EndEntities,
    Authorities,
}

impl Scope {
    /// Whether a list would name the certificate if it were revoked (RFC 5280 §6.3.3 (b)(2)).
    pub(super) fn covers(&self, certificate: &Certificate) -> bool {
        let is_kind = match self.kind {
            Kind::All => true,
            Kind::EndEntities => !certificate.is_authority,
            Kind::Authorities => certificate.is_authority,
        };
        let names_point =
            |points: &Vec<String>| points.iter().any(|point| certificate.crl_urls.contains(point));
        is_kind && self.points.as_ref().is_none_or(names_point)
    }
}

impl<'a> Extensions<'a> {
    /// Reads the next field if it is `[0]`.
    pub(super) fn read(tbs: &mut Fields<'a>) -> Result<Option<Self>, CrlFault> {
        let Some(explicit) = tbs.optional(constructed(TagNumber::N0))? else { return Ok(None) };
        let mut list = Fields::new(explicit)?;
        let extensions = list.extensions()?;
        list.end()?;
        let mut read = Self::default();
        for extension in extensions {
            match extension.id {
                CRL_NUMBER => {
                    let mut fields = Fields::new(extension.value)?;
                    let number = fields.integer()?;
                    fields.end()?;
                    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
                        return Err(Tag::Integer.value_error().into());
                    }
                    read.number = Some(number);
                }
                DELTA_CRL_INDICATOR => return Err(CrlFault::Delta),
                ISSUING_DISTRIBUTION_POINT => read.scope = read_scope(extension.value)?,
                AUTHORITY_KEY_IDENTIFIER | ISSUER_ALTERNATIVE_NAME => {}
                _ if extension.is_critical => {
                    return Err(CrlFault::CriticalExtension(extension.name()));
                }
                _ => {}
            }
        }
        Ok(Some(read))
    }
}

/// IssuingDistributionPoint (RFC 5280 §5.2.5).
fn read_scope(value: &[u8]) -> Result<Scope, CrlFault> {
    let mut fields = Fields::of(value)?;
    let points = fields.optional(constructed(TagNumber::N0))?.map(read_points).transpose()?;
    let is_end_entities = flag(&mut fields, TagNumber::N1)?;
    let is_authorities = flag(&mut fields, TagNumber::N2)?;
    if fields.optional(primitive(TagNumber::N3))?.is_some() {
        return Err(CrlFault::SomeReasons);
    }
    if flag(&mut fields, TagNumber::N4)? {
        return Err(CrlFault::Indirect);
    }
    if flag(&mut fields, TagNumber::N5)? {
        return Err(CrlFault::AttributeCertificates);
    }
    fields.end()?;
    let kind = match (is_end_entities, is_authorities) {
        (false, false) => Kind::All,
        (true, false) => Kind::EndEntities,
        (false, true) => Kind::Authorities,
        // At most one of them may be true.
        (true, true) => return Err(Tag::Boolean.value_error().into()),
    };
    Ok(Scope { kind, points })
}

/// A BOOLEAN that is FALSE where it is left out.
fn flag(fields: &mut Fields<'_>, number: TagNumber) -> Result<bool, CrlFault> {
    let content = fields.optional(primitive(number))?;
    Ok(content.map_or(Ok(false), boolean)?)
}

/// The URLs of a DistributionPointName. Other kinds of names cover no certificate here, and names
/// relative to the issuer are refused.
fn read_points(choice: &[u8]) -> Result<Vec<String>, CrlFault> {
    let mut fields = Fields::new(choice)?;
    let mut names = Fields::new(fields.value(constructed(TagNumber::N0))?)?;
    fields.end()?;
    let mut points = Vec::new();
    while !names.is_empty() {
        let (tag, value) = names.any()?;
        if tag == primitive(TagNumber::N6) {
            let url = std::str::from_utf8(value).map_err(|_| Tag::Ia5String.value_error())?;
            points.push(url.to_owned());
        }
        if points.len() > NAMES_MAX {
            return Err(Tag::Sequence.value_error().into());
        }
    }
    Ok(points)
}
