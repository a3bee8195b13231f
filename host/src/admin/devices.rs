//! Devices: list, show, add, import, change, delete, kick.
#![expect(unused_qualifications, reason = "the macro that describes parameters writes them")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portreeve_store::NotStored;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Json, Path, Problem, ProblemBody, Query, limit};
use super::{Admin, Caller};
use crate::devices::password::{HashCost, PasswordHash};
use crate::devices::{
    CertificateMatch, Change, Changed, CheckedSpec, DeviceName, DeviceSpec, Entry, Filter,
    InvalidSpec, NewPassword, NotChanged, Origin, Said, What,
};
use crate::permissions::Grant;

/// Devices of one page.
const PAGE_MAX: usize = 1_000;
const PAGE: usize = 100;
/// Devices of one import.
pub(crate) const IMPORT_MAX: usize = 10_000;

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Device {
    /// Its product.
    product: String,
    /// Its name, unique within the product.
    name: String,
    /// Whether it may connect.
    enabled: bool,
    /// How it came into the registry.
    #[schema(value_type = OriginName)]
    origin: &'static str,
    /// Its serial number.
    serial_number: Option<String>,
    /// Its MQTT user name.
    user_name: Option<String>,
    /// Whether it has a password.
    has_password: bool,
    /// The hash of its password, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    /// SHA-256 of the certificate that it has to have.
    certificate_fingerprint: Option<String>,
    /// The common name of the certificate that it has to have.
    certificate_common_name: Option<String>,
    /// Given to parsers.
    attributes: BTreeMap<String, String>,
    /// What it may do with topics; null where the gateway's rules hold.
    permissions: Option<Vec<Permission>>,
    /// When it came into the registry.
    #[schema(format = DateTime)]
    created_at: Option<String>,
    /// When it connected last.
    #[schema(format = DateTime)]
    last_seen_at: Option<String>,
    /// Connections that it has now; only where a single device is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<usize>,
}

/// A topic filter with what it is for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Permission {
    /// `publish`, `subscribe` or `both`.
    action: &'static str,
    /// May hold `%d`, `%c`, `%u`.
    topic_filter: String,
}

/// How a device came into the registry.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OriginName {
    Configured,
    Imported,
    AutoCreated,
}

impl From<OriginName> for Origin {
    fn from(name: OriginName) -> Self {
        match name {
            OriginName::Configured => Self::Configured,
            OriginName::Imported => Self::Imported,
            OriginName::AutoCreated => Self::AutoCreated,
        }
    }
}

impl Device {
    fn of(entry: &Entry, with_hash: bool) -> Self {
        let Entry { device, credentials, created_at, standing } = entry;
        let (fingerprint, common_name) = match credentials.certificate.as_deref() {
            Some(CertificateMatch::Fingerprint(digest)) => (Some(hex::encode(digest)), None),
            Some(CertificateMatch::CommonName(name)) => (None, Some(name.clone())),
            None => (None, None),
        };
        let permission = |Grant { action, filter }: &Grant| Permission {
            action: action.name(),
            topic_filter: filter.to_string(),
        };
        let permissions = device.permissions.as_ref();
        let hash = credentials.password.as_ref().filter(|_| with_hash);
        Self {
            product: device.product.to_string(),
            name: device.name.to_string(),
            enabled: device.enabled,
            origin: device.origin.name(),
            serial_number: credentials.serial_number.as_deref().map(str::to_owned),
            user_name: credentials.user_name.as_deref().map(str::to_owned),
            has_password: entry.needs_password(),
            password_hash: hash.map(|hash| hash.as_str().to_owned()),
            certificate_fingerprint: fingerprint,
            certificate_common_name: common_name,
            attributes: device.attributes.iter().cloned().collect(),
            permissions: permissions.map(|grants| grants.iter().map(permission).collect()),
            created_at: time(*created_at),
            last_seen_at: time(standing.last_seen()),
            connections: None,
        }
    }
}

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since 1970 as RFC 3339 writes them; `None` for 0.
fn time(seconds: u64) -> Option<String> {
    let at = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
    (seconds > 0).then(|| humantime::format_rfc3339_seconds(at).to_string())
}

/// Which devices are wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeviceQuery {
    /// Those of this product.
    product: Option<String>,
    /// Those whose name begins so.
    prefix: Option<String>,
    /// Those that may connect, or may not.
    enabled: Option<bool>,
    /// Those that came into the registry so.
    origin: Option<OriginName>,
    /// The one with this user name.
    user_name: Option<String>,
    /// The one with this serial number.
    serial_number: Option<String>,
    /// Devices of one page, 1 to 1000; 100 where it is absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
    /// Whether password hashes are shown, too, which asks for the scope `admin`.
    credentials: Option<bool>,
}

/// Devices in the order of products and names.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DevicePage {
    devices: Vec<Device>,
    /// For `after` of the next page; null behind the last one.
    next: Option<String>,
}

/// A product with its devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Product {
    name: String,
    devices: usize,
}

/// Every product.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Products {
    products: Vec<Product>,
}

/// List products
#[utoipa::path(get, path = "/v1/products", tag = "devices", responses(
    (status = 200, body = Products),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn products(State(admin): State<Admin>) -> Json<Products> {
    let mut products: BTreeMap<String, usize> =
        admin.gateways.iter().map(|gateway| (gateway.product.to_string(), 0)).collect();
    for (name, devices) in admin.broker.registry.products() {
        products.insert(name.to_string(), devices);
    }
    let product = |(name, devices)| Product { name, devices };
    Json(Products { products: products.into_iter().map(product).collect() })
}

/// List devices
#[utoipa::path(get, path = "/v1/devices", tag = "devices", params(DeviceQuery), responses(
    (status = 200, body = DevicePage),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Query(query): Query<DeviceQuery>,
) -> Result<Json<DevicePage>, Problem> {
    let limit = limit(query.limit, PAGE, PAGE_MAX)?;
    let with_hash = query.credentials.unwrap_or(false);
    if with_hash {
        caller.must_be_admin("password hashes")?;
    }
    let after = query.after.as_deref().map(cursor).transpose()?;
    let filter = Filter {
        product: query.product,
        prefix: query.prefix,
        enabled: query.enabled,
        origin: query.origin.map(Origin::from),
        user_name: query.user_name,
        serial_number: query.serial_number,
        after,
    };
    let page = admin.broker.registry.page(&filter, limit);
    let next = page.next.as_ref();
    let next = next.map(|(product, name)| URL_SAFE_NO_PAD.encode(format!("{product}\0{name}")));
    let devices = page.entries.iter().map(|entry| Device::of(entry, with_hash)).collect();
    Ok(Json(DevicePage { devices, next }))
}

/// The two names behind which a page begins.
pub(super) fn cursor(text: &str) -> Result<(String, String), Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = text.as_deref().and_then(|text| text.split_once('\0'));
    let pair = pair.map(|(product, name)| (product.to_owned(), name.to_owned()));
    pair.ok_or_else(|| Problem::bad_request("after is not the next of a page"))
}

/// Show a device
#[utoipa::path(get, path = "/v1/products/{product}/devices/{name}", tag = "devices",
    params(("product" = String, Path), ("name" = String, Path)), responses(
    (status = 200, body = Device),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn show(
    State(admin): State<Admin>,
    Path((product, name)): Path<(String, String)>,
) -> Result<Json<Device>, Problem> {
    shown(&admin, &product, &name).map(Json)
}

fn shown(admin: &Admin, product: &str, name: &str) -> Result<Device, Problem> {
    let entry = admin.broker.registry.find(product, name).ok_or_else(|| unknown(product, name))?;
    let key = (product, name);
    let sessions = admin.broker.sessions.of_devices(&[key].into());
    let connections = sessions.iter().filter(|session| session.is_connected()).count();
    Ok(Device { connections: Some(connections), ..Device::of(&entry, false) })
}

fn unknown(product: &str, name: &str) -> Problem {
    Problem::not_found(format!("there is no device {name:?} in product {product:?}"))
}

/// Add a device
#[utoipa::path(post, path = "/v1/devices", tag = "devices", request_body = DeviceSpec, responses(
    (status = 201, body = Device),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Json(spec): Json<DeviceSpec>,
) -> Result<(StatusCode, Json<Device>), Problem> {
    let spec = spec.check().map_err(|error| invalid(&error))?;
    let name = spec.device_name().map_err(|error| invalid(&error))?;
    let product = product_of(&admin, &spec)?;
    let target = Target { product, name };
    let what = What::Add(hashed(&admin, &target, spec).await?);
    make(&admin, &caller, "add", &target, what).await?;
    let device = shown(&admin, &target.product, target.name.as_str())?;
    Ok((StatusCode::CREATED, Json(device)))
}

/// The device of a request.
struct Target {
    product: String,
    name: DeviceName,
}

impl Target {
    fn parse(product: String, name: &str) -> Result<Self, Problem> {
        match DeviceName::parse(name) {
            Ok(name) => Ok(Self { product, name }),
            Err(_) => Err(unknown(&product, name)),
        }
    }
}

/// The product that a device is for: the one that is said, or the only one that gateways have.
fn product_of(admin: &Admin, spec: &CheckedSpec) -> Result<String, Problem> {
    if let Some(product) = &spec.product {
        return Ok(product.clone());
    }
    let mut products: Vec<&str> = admin.gateways.iter().map(|gateway| &*gateway.product).collect();
    products.sort_unstable();
    products.dedup();
    match products.as_slice() {
        [one] => Ok((*one).to_owned()),
        several => Err(Problem::bad_request(format!(
            "which product? The gateways have {}; say product",
            several.join(", ")
        ))),
    }
}

fn invalid(error: &InvalidSpec) -> Problem {
    Problem::bad_request(error.to_string())
}

/// What is said of a device, with its password hashed; one that it has already stays.
async fn hashed(admin: &Admin, target: &Target, spec: CheckedSpec) -> Result<Said, Problem> {
    let mut all = hash_all(admin, vec![(target.product.clone(), target.name.clone(), spec)]).await;
    let said = all.pop().ok_or_else(|| Problem::bad_request("nothing is said"))?;
    said.map_err(|error| invalid(&error))
}

type ToHash = (String, DeviceName, CheckedSpec);

/// Devices with the hash of the password that they have already, where another one is said.
fn with_known(admin: &Admin, specs: Vec<ToHash>) -> Vec<(CheckedSpec, Option<PasswordHash>)> {
    let registry = &admin.broker.registry;
    let known = |(product, name, spec): ToHash| {
        let entry = spec.password.as_ref().and_then(|_| registry.find(&product, name.as_str()));
        let known = entry.and_then(|entry| entry.credentials.password.clone());
        (spec, known)
    };
    specs.into_iter().map(known).collect()
}

async fn hash_all(admin: &Admin, specs: Vec<ToHash>) -> Vec<Result<Said, InvalidSpec>> {
    let specs = with_known(admin, specs);
    let hash = |(spec, known): (CheckedSpec, Option<_>), cost: HashCost| {
        let password = match &spec.password {
            Some(Some(password)) => Some(Some(password.hashed(known.as_ref(), cost)?)),
            Some(None) => Some(None),
            None => None,
        };
        Ok(Said { spec, password })
    };
    let hashed = admin.broker.hasher.each(specs, hash).await.into_iter();
    let not_computed = || Err(InvalidSpec("its password could not be hashed".to_owned()));
    hashed.map(|said| said.unwrap_or_else(not_computed)).collect()
}

/// What is said, as if passwords had been hashed: whoever tries does not need the hashes, which are
/// what takes long. A password that is known stands for the same one.
fn as_if_hashed(admin: &Admin, specs: Vec<ToHash>) -> Vec<Result<Said, InvalidSpec>> {
    let said = |(spec, known): (CheckedSpec, Option<PasswordHash>)| {
        let password = spec.password.as_ref().map(|password| match password {
            None => None,
            Some(NewPassword::Hash(hash)) => Some(hash.clone()),
            Some(NewPassword::Plain(_)) => Some(known.unwrap_or_else(PasswordHash::unknown)),
        });
        Ok(Said { spec, password })
    };
    with_known(admin, specs).into_iter().map(said).collect()
}

/// Does something to its end, also when whoever asked goes away meanwhile.
pub(super) async fn to_its_end<T: Send + 'static>(
    admin: &Admin,
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed; see its log");
    admin.tasks.spawn(work).await.map_err(failed)?
}

/// Makes a change, waits until it is stored, and ends the sessions that it is to end. It goes on when
/// whoever asked goes away.
async fn make(
    admin: &Admin,
    caller: &Caller,
    action: &'static str,
    target: &Target,
    what: What,
) -> Result<Changed, Problem> {
    let Target { product, name } = target;
    let forgets = matches!(what, What::Delete);
    let told = match &what {
        What::Add(said) | What::Change(said) | What::Import(said) => said.spec.fields().join(", "),
        What::Delete => String::new(),
    };
    let change = Change { product: product.clone(), name: name.clone(), what };
    let what = format!("device {product}/{name}");
    let (broker, caller) = (Arc::clone(&admin.broker), caller.clone());
    let made = async move {
        let mut batch = broker.registry.change(vec![change], false).map_err(not_stored)?;
        let result = batch.results.pop().unwrap_or(Ok(Changed::Unchanged));
        let changed = result.map_err(|error| not_changed(&error))?;
        batch.pending.stored(&broker.registry).await.map_err(not_stored)?;
        let sessions = broker.end_sessions(&batch.ended, forgets);
        caller.did(action, &what, &format!("{told}; {sessions} connections ended"));
        Ok(changed)
    };
    to_its_end(admin, made).await
}

fn not_stored(error: NotStored) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("nothing was changed: {error}"))
}

fn not_changed(error: &NotChanged) -> Problem {
    let status = match error {
        NotChanged::Unknown(..) => StatusCode::NOT_FOUND,
        NotChanged::Exists(_) | NotChanged::Taken { .. } | NotChanged::Configured(_) => {
            StatusCode::CONFLICT
        }
        NotChanged::Invalid(_) => StatusCode::BAD_REQUEST,
        NotChanged::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
    };
    Problem::new(status, error.to_string())
}

/// Devices to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    /// Each as for `POST /v1/devices`, at most 10,000. One whose values are out of bounds is refused by its place, and
    /// those beside it are imported.
    #[schema(max_items = 10000, value_type = Vec<Object>)]
    devices: Vec<DeviceSpec>,
    /// Says what would become of them, and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// What became of devices that were imported.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Imported {
    created: usize,
    updated: usize,
    unchanged: usize,
    refused: Vec<RefusedDevice>,
}

/// A device that was not imported.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusedDevice {
    /// Its place in the request, from 0.
    index: usize,
    /// What is wrong with it.
    why: String,
}

/// Import devices: add those that are new, change those that are known
#[utoipa::path(post, path = "/v1/devices/import", tag = "devices", request_body = Import, responses(
    (status = 200, body = Imported),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn import(
    State(admin): State<Admin>,
    caller: Caller,
    Json(Import { devices, dry_run }): Json<Import>,
) -> Result<Json<Imported>, Problem> {
    if devices.len() > IMPORT_MAX {
        let detail = format!("{} devices; at most {IMPORT_MAX} at a time", devices.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    let mut imported = Imported::default();
    let mut places = Vec::new();
    let mut to_hash = Vec::new();
    for (index, spec) in devices.into_iter().enumerate() {
        match checked(&admin, spec) {
            Ok(spec) => {
                places.push(index);
                to_hash.push(spec);
            }
            Err(why) => imported.refused.push(RefusedDevice { index, why }),
        }
    }
    let keys: Vec<_> =
        to_hash.iter().map(|(product, name, _)| (product.clone(), name.clone())).collect();
    let said = match dry_run {
        true => as_if_hashed(&admin, to_hash),
        false => hash_all(&admin, to_hash).await,
    };
    let mut changes = Vec::new();
    let mut changed_places = Vec::new();
    for ((index, (product, name)), said) in places.into_iter().zip(keys).zip(said) {
        match said {
            Ok(said) => {
                changes.push(Change { product, name, what: What::Import(said) });
                changed_places.push(index);
            }
            Err(error) => imported.refused.push(RefusedDevice { index, why: error.to_string() }),
        }
    }
    let count = changes.len();
    let (broker, by) = (Arc::clone(&admin.broker), caller.clone());
    let made = async move {
        let registry = &broker.registry;
        let batch = registry.change(changes, dry_run).map_err(not_stored)?;
        batch.pending.stored(registry).await.map_err(not_stored)?;
        let sessions = broker.end_sessions(&batch.ended, false);
        if !dry_run {
            by.did("import", "devices", &format!("{count} lines; {sessions} connections ended"));
        }
        Ok(batch.results)
    };
    let results = to_its_end(&admin, made).await?;
    for (index, result) in changed_places.into_iter().zip(results) {
        match result {
            Ok(Changed::Created) => imported.created += 1,
            Ok(Changed::Updated | Changed::Deleted) => imported.updated += 1,
            Ok(Changed::Unchanged) => imported.unchanged += 1,
            Err(error) => imported.refused.push(RefusedDevice { index, why: error.to_string() }),
        }
    }
    imported.refused.sort_by_key(|refused| refused.index);
    Ok(Json(imported))
}

fn checked(admin: &Admin, spec: DeviceSpec) -> Result<ToHash, String> {
    let spec = spec.check().map_err(|error| error.to_string())?;
    let name = spec.device_name().map_err(|error| error.to_string())?;
    let product = product_of(admin, &spec).map_err(Problem::into_detail)?;
    Ok((product, name, spec))
}

/// Change a device: what is absent stays, an empty text takes something away
#[utoipa::path(patch, path = "/v1/products/{product}/devices/{name}", tag = "devices",
    params(("product" = String, Path), ("name" = String, Path)), request_body = DeviceSpec, responses(
    (status = 200, body = Device),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Path((product, name)): Path<(String, String)>,
    Json(spec): Json<DeviceSpec>,
) -> Result<Json<Device>, Problem> {
    let target = Target::parse(product, &name)?;
    if spec.name.as_ref().is_some_and(|other| *other != name)
        || spec.product.as_ref().is_some_and(|other| *other != target.product)
    {
        return Err(Problem::bad_request("a device keeps its name and its product"));
    }
    let spec = spec.check().map_err(|error| invalid(&error))?;
    let what = What::Change(hashed(&admin, &target, spec).await?);
    make(&admin, &caller, "change", &target, what).await?;
    shown(&admin, &target.product, &name).map(Json)
}

/// Delete a device, and end its sessions
#[utoipa::path(delete, path = "/v1/products/{product}/devices/{name}", tag = "devices",
    params(("product" = String, Path), ("name" = String, Path)), responses(
    (status = 204),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Path((product, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let target = Target::parse(product, &name)?;
    make(&admin, &caller, "delete", &target, What::Delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sessions that were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ended {
    /// How many.
    sessions: usize,
}

/// End the connections of a device
#[utoipa::path(post, path = "/v1/products/{product}/devices/{name}/kick", tag = "devices",
    params(("product" = String, Path), ("name" = String, Path)), responses(
    (status = 200, body = Ended),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn kick(
    State(admin): State<Admin>,
    caller: Caller,
    Path((product, name)): Path<(String, String)>,
) -> Result<Json<Ended>, Problem> {
    let registry = &admin.broker.registry;
    let entry = registry.find(&product, &name).ok_or_else(|| unknown(&product, &name))?;
    let sessions = admin.broker.end_sessions(std::slice::from_ref(&entry.device), false);
    caller.did("kick", &format!("device {product}/{name}"), &format!("{sessions} sessions"));
    Ok(Json(Ended { sessions }))
}
