//! All that discovery knows, and the routes that it makes; a change builds what it touches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::build::{Built, Slices, build, condition, unreadable};
use super::endpoint_slice::EndpointSlice;
use super::inference_service::InferenceService;
use super::object::{Key, Object};
use super::reflector::Change;
use crate::config::{Condition, Reason, RouteSpec};

/// An object and when it was written.
#[derive(Debug)]
struct Kept<T> {
    version: Option<u64>,
    content: Result<T, String>,
    /// Why `content` is not what was written last.
    problem: Option<String>,
}

impl<T> Kept<T> {
    fn new(object: Object<T>) -> (Key, Self) {
        let Object {
            key,
            version,
            content,
        } = object;
        let kept = Self {
            version: version.parse().ok(),
            content,
            problem: None,
        };
        (key, kept)
    }

    /// Keeps the content of `old` when this one cannot be read.
    fn or_last_good(self, old: Option<Self>) -> Self {
        match (self, old) {
            (
                Self {
                    version,
                    content: Err(problem),
                    ..
                },
                Some(Self {
                    content: Ok(good), ..
                }),
            ) => Self {
                version,
                content: Ok(good),
                problem: Some(problem),
            },
            (new, _) => new,
        }
    }

    /// Whether `other` was written before. Versions are numbers that grow (KEP-5504); others are taken as they come.
    fn is_newer_than(&self, other: &Self) -> bool {
        self.version
            .zip(other.version)
            .is_some_and(|(own, other)| own > other)
    }
}

/// A slice's name, and the slice.
type Named = (Box<str>, Kept<EndpointSlice>);

/// The slices of each Service, by name.
#[derive(Debug, Default)]
struct SlicesByService {
    by_service: HashMap<Key, Vec<Named>>,
    /// Which Service a slice belongs to.
    services: HashMap<Key, Box<str>>,
}

impl Slices for SlicesByService {
    fn of(&self, service: &Key) -> impl Iterator<Item = &EndpointSlice> {
        let slices = self.by_service.get(service).map_or(&[][..], Vec::as_slice).iter();
        slices.filter_map(|(_, slice)| slice.content.as_ref().ok())
    }
}

impl SlicesByService {
    fn remove(&mut self, slice: &Key) -> Option<Key> {
        let service = Key::new(&slice.namespace, &self.services.remove(slice)?);
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.retain(|(name, _)| *name != slice.name);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        Some(service)
    }

    fn get(&self, slice: &Key) -> Option<&Kept<EndpointSlice>> {
        let service = Key::new(&slice.namespace, self.services.get(slice)?);
        let (_, kept) = self
            .by_service
            .get(&service)?
            .iter()
            .find(|(name, _)| *name == slice.name)?;
        Some(kept)
    }

    /// Most Services have one: a list of just that many is smaller than a map.
    fn put(&mut self, key: Key, service: Key, kept: Kept<EndpointSlice>) {
        let slices = self.by_service.entry(service.clone()).or_default();
        match slices.binary_search_by(|(name, _)| name.cmp(&key.name)) {
            Ok(index) => slices[index].1 = kept,
            Err(index) => {
                slices.reserve_exact(1);
                slices.insert(index, (key.name.clone(), kept));
            }
        }
        self.services.insert(key, service.name);
    }
}

/// Objects, what was built of each, and what has to be built again.
#[derive(Debug)]
pub(super) struct Catalog {
    defaults: RouteSpec,
    services: BTreeMap<Key, Kept<InferenceService>>,
    slices: SlicesByService,
    built: BTreeMap<Key, Arc<Built>>,
    /// InferenceServices that looked for a Service's slices.
    interested: HashMap<Key, Vec<Key>>,
    dirty: BTreeSet<Key>,
    /// Something besides `dirty` changed that conditions tell of.
    touched: bool,
}

/// What the catalog comes to.
#[derive(Debug)]
pub(super) struct View {
    pub(super) routes: Vec<Arc<RouteSpec>>,
    pub(super) services: Vec<Arc<Built>>,
    pub(super) conditions: Vec<Condition>,
}

impl Catalog {
    /// Nothing yet. `defaults` has the limits of routes whose objects set none.
    pub(super) fn new(defaults: RouteSpec) -> Self {
        Self {
            defaults,
            services: BTreeMap::new(),
            slices: SlicesByService::default(),
            built: BTreeMap::new(),
            interested: HashMap::new(),
            dirty: BTreeSet::new(),
            touched: false,
        }
    }

    /// A change of the InferenceServices in `namespace`, or in all.
    pub(super) fn change_services(&mut self, namespace: Option<&str>, change: Change<InferenceService>) {
        match change {
            Change::Replaced(objects) => {
                let is_here = |key: &Key| namespace.is_none_or(|namespace| namespace == &*key.namespace);
                let mut old = BTreeMap::new();
                for (key, service) in std::mem::take(&mut self.services) {
                    let known = if is_here(&key) {
                        &mut old
                    } else {
                        &mut self.services
                    };
                    known.insert(key, service);
                }
                self.dirty.extend(old.keys().cloned());
                for (key, new) in objects.into_iter().map(Kept::new) {
                    self.dirty.insert(key.clone());
                    let new = new.or_last_good(old.remove(&key));
                    self.services.insert(key, new);
                }
            }
            Change::Applied(object) => {
                let (key, new) = Kept::new(object);
                if self.services.get(&key).is_none_or(|old| !old.is_newer_than(&new)) {
                    self.dirty.insert(key.clone());
                    let new = new.or_last_good(self.services.remove(&key));
                    self.services.insert(key, new);
                }
            }
            Change::Deleted(key) => {
                self.services.remove(&key);
                self.dirty.insert(key);
            }
            Change::Following | Change::Lost => {}
        }
    }

    /// A change of the EndpointSlices in `namespace`, or in all.
    pub(super) fn change_slices(&mut self, namespace: Option<&str>, change: Change<EndpointSlice>) {
        match change {
            Change::Replaced(objects) => {
                let is_here = |key: &Key| namespace.is_none_or(|namespace| namespace == &*key.namespace);
                let new: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
                let old = self.slices.services.keys();
                let gone: Vec<Key> = old
                    .filter(|key| is_here(key) && !new.contains(key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.remove_slice(&key);
                }
                for object in objects {
                    self.put_slice(object);
                }
            }
            Change::Applied(object) => {
                let (version, key) = (object.version.parse::<u64>().ok(), &object.key);
                let known = self.slices.get(key).and_then(|kept| kept.version);
                if known.zip(version).is_none_or(|(known, version)| known <= version) {
                    self.put_slice(object);
                }
            }
            Change::Deleted(key) => self.remove_slice(&key),
            Change::Following | Change::Lost => {}
        }
    }

    fn remove_slice(&mut self, slice: &Key) {
        if let Some(service) = self.slices.remove(slice) {
            self.touch(&service);
        }
    }

    fn put_slice(&mut self, object: Object<EndpointSlice>) {
        let (key, kept) = Kept::new(object);
        // One that cannot be read stays with the Service that it belonged to, so that it is told where it was.
        let service: Box<str> = match &kept.content {
            Ok(slice) => slice.service.clone(),
            Err(_) => self.slices.services.get(&key).cloned().unwrap_or_default(),
        };
        let same = self
            .slices
            .get(&key)
            .is_some_and(|old| old.content == kept.content);
        if !same {
            self.remove_slice(&key);
        }
        let service_key = Key::new(&key.namespace, &service);
        self.slices.put(key, service_key.clone(), kept);
        if !same {
            self.touch(&service_key);
        }
    }

    fn touch(&mut self, service: &Key) {
        self.touched = true;
        if let Some(interested) = self.interested.get(service) {
            self.dirty.extend(interested.iter().cloned());
        }
    }

    /// Whether [`Self::view`] would differ.
    pub(super) fn has_changed(&self) -> bool {
        self.touched || !self.dirty.is_empty()
    }

    /// Builds what has changed. Of two objects that want the same, the older one's route comes first.
    pub(super) fn view(&mut self) -> View {
        for key in std::mem::take(&mut self.dirty) {
            self.rebuild(key);
        }
        self.touched = false;
        let built = || self.built.values();
        let mut conditions: Vec<Condition> = built().flat_map(|built| &built.conditions).cloned().collect();
        for (service, slices) in &self.slices.by_service {
            for (name, slice) in slices {
                if let Err(problem) = &slice.content {
                    let key = Key::new(&service.namespace, name);
                    conditions.push(condition(&key, Reason::Malformed, problem));
                }
            }
        }
        let mut routed: Vec<_> = built()
            .filter_map(|built| Some((&built.created, built.route.as_ref()?)))
            .collect();
        // Stable: those of one age stay in the order of their names.
        routed.sort_by_key(|(created, _)| *created);
        View {
            routes: routed.into_iter().map(|(_, route)| Arc::clone(route)).collect(),
            services: built().cloned().collect(),
            conditions,
        }
    }

    fn rebuild(&mut self, key: Key) {
        let old = self.built.remove(&key);
        for service in old.iter().flat_map(|old| &old.services) {
            if let Some(interested) = self.interested.get_mut(service) {
                interested.retain(|other| *other != key);
                if interested.is_empty() {
                    self.interested.remove(service);
                }
            }
        }
        let Some(service) = self.services.get(&key) else {
            return;
        };
        let mut built = match &service.content {
            Ok(content) => build(&key, content, &self.slices, &self.defaults),
            Err(problem) => unreadable(&key, problem),
        };
        if let Some(problem) = &service.problem {
            let problem = format!("{problem}; what it was before goes on serving");
            built.conditions.push(condition(&key, Reason::Malformed, problem));
        }
        // A route that is the same is the same one: nothing is built of it again in the snapshot.
        if let (Some(new), Some(old)) = (&mut built.route, old.as_ref().and_then(|old| old.route.as_ref()))
            && new == old
        {
            *new = Arc::clone(old);
        }
        for service in &built.services {
            let interested = self.interested.entry(service.clone()).or_default();
            interested.reserve_exact(1);
            interested.push(key.clone());
        }
        self.built.insert(key, Arc::new(built));
    }
}
