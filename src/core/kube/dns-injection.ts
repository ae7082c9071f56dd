// The change that the admission webhook makes to a new pod: its DNS settings name the DNS servers of the mesh. The
// input is a pod and the settings, the output a JSON Patch. src/io/webhook/review.ts calls it for each pod that the
// API server asks about.
// Invariants
//   1. The patched pod passes the validation of the API server, also where the pod had long lists. Lists are cut to
//      the API's bounds, and the entries of the mesh come first, so they are cut last.
//   2. A pod that was patched already, or that chose its DNS itself (policy None or Default), is left alone. So
//      applying the webhook twice has the effect of applying it once.
//   3. What the pod asked for in its own dnsConfig stays, behind the entries of the mesh.
// Sources: Kubernetes "DNS for Services and Pods", core/v1 validation (3 nameservers, 32 search paths, 2048
// characters), RFC 6902.
import { isFields, type Fields } from '../model/field-check.ts'

/** A label or annotation with this name and the value "false" keeps a pod's DNS as it is. */
const DNS_LABEL = 'rhizome.io/dns'

/** The DNS settings that pods get. */
export interface DnsInjection {
  /** Addresses of the mesh's DNS servers, best first; empty while they are not known, and then no pod is changed. */
  readonly nameservers: readonly string[]
  /** The domain of the cluster's own services: "cluster.local". */
  readonly clusterDomain: string
  /** Search domains behind those of the cluster itself: "svc.cluster.east". */
  readonly searches: readonly string[]
  /** The option ndots of resolv.conf(5), for pods that do not set it themselves. */
  readonly ndots: number
}

interface JsonPatchOp {
  readonly op: 'add'
  readonly path: string
  readonly value: unknown
}

/**
 * Returns the patch for one pod; undefined: the pod is not changed. `pod` is the object as the API server sends it;
 * `namespace` is that of the request, because a pod that is about to be created may not have its own yet.
 */
export function dnsPatch(
  pod: Fields,
  namespace: string,
  settings: DnsInjection
): readonly JsonPatchOp[] | undefined {
  const { metadata, spec } = pod
  if (!isFields(spec) || declines(metadata)) return undefined
  // The address of the DNS service is not known yet.
  if (settings.nameservers.length === 0) return undefined
  const policy = spec['dnsPolicy'] ?? 'ClusterFirst'
  // With hostNetwork, ClusterFirst means Default (core/v1). Such a pod uses the servers of its host, and may be a
  // system component that the cluster's DNS depends on.
  const clusterFirst =
    policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && spec['hostNetwork'] !== true)
  if (!clusterFirst) return undefined
  return [
    { op: 'add', path: '/spec/dnsPolicy', value: 'None' },
    { op: 'add', path: '/spec/dnsConfig', value: dnsConfig(spec['dnsConfig'], namespace, settings) }
  ]
}

interface DnsConfig {
  readonly nameservers: readonly string[]
  readonly searches: readonly string[]
  readonly options: readonly unknown[]
}

// The bounds of the API server's validation of core/v1 dnsConfig.
const NAMESERVERS_MAX = 3
const SEARCHES_MAX = 32
const SEARCH_CHARACTERS_MAX = 2048

/**
 * The DNS configuration under policy None, which takes nothing from the cluster. So it also lists the search domains
 * that ClusterFirst would have given.
 */
function dnsConfig(before: unknown, namespace: string, settings: DnsInjection): DnsConfig {
  const own = isFields(before) ? before : {}
  const { clusterDomain } = settings
  const searches = [
    `${namespace}.svc.${clusterDomain}`,
    `svc.${clusterDomain}`,
    clusterDomain,
    ...settings.searches
  ]
  const options = Array.isArray(own['options']) ? own['options'] : []
  const named = new Set(options.map((option) => (isFields(option) ? option['name'] : undefined)))
  return {
    nameservers: unique([...settings.nameservers, ...texts(own['nameservers'])]).slice(0, NAMESERVERS_MAX),
    searches: fitting(unique([...searches, ...texts(own['searches'])])),
    options: [...options, ...(named.has('ndots') ? [] : [{ name: 'ndots', value: String(settings.ndots) }])]
  }
}

/**
 * The search domains that fit on one line of resolv.conf: 32 at most, with 2048 characters at most, the spaces
 * between them included.
 */
function fitting(searches: readonly string[]): string[] {
  let characters = -1
  return searches.slice(0, SEARCHES_MAX).filter((search) => {
    if (characters + search.length + 1 > SEARCH_CHARACTERS_MAX) return false
    characters += search.length + 1
    return true
  })
}

function declines(metadata: unknown): boolean {
  const { labels, annotations } = isFields(metadata) ? metadata : {}
  return [labels, annotations].some((marks) => isFields(marks) && marks[DNS_LABEL] === 'false')
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)]
}
