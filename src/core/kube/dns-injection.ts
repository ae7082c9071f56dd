// What the admission webhook does to a pod: its DNS settings name the mesh's servers. Pod and settings in, JSON Patch out.
// Invariants
//   1. The result passes the API server's own validation whatever the pod had: bounds are cut to, ours last to go.
//   2. A pod that was patched, or that chose its DNS itself (policy None or Default), is left alone: twice is as once.
//   3. What the pod asked for in its own dnsConfig stays, after ours.
// Sources: Kubernetes "DNS for Services and Pods", core/v1 validation (3 nameservers, 32 search paths, 2048 characters), RFC 6902.
import { isFields, type Fields } from '../model/field-check.ts'

const DNS_LABEL = 'rhizome.io/dns'

export interface DnsInjection {
  /** Addresses of the mesh's DNS, best first. */
  readonly nameservers: readonly string[]
  /** "cluster.local": the domain of the cluster's own services. */
  readonly clusterDomain: string
  /** After the cluster's own: "svc.cluster.east". */
  readonly searches: readonly string[]
  readonly ndots: number
}

interface JsonPatchOp {
  readonly op: 'add'
  readonly path: string
  readonly value: unknown
}

type DnsPatch =
  | { readonly kind: 'patch'; readonly patch: readonly JsonPatchOp[] }
  | { readonly kind: 'none'; readonly reason: string }

/** `pod` as the API server sends it; `namespace` of the request, since a pod about to be made may lack its own. */
export function dnsPatch(pod: Fields, namespace: string, settings: DnsInjection): DnsPatch {
  const { metadata, spec } = pod
  if (!isFields(spec)) return none('the pod has no spec')
  if (declines(metadata)) return none(`${DNS_LABEL} is "false"`)
  if (settings.nameservers.length === 0) return none('the address of the DNS service is not known yet')
  const policy = spec['dnsPolicy'] ?? 'ClusterFirst'
  // On the host's network, ClusterFirst means Default (core/v1): such a pod asks the host's servers and may be one of the cluster's own parts.
  const clusterFirst =
    policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && spec['hostNetwork'] !== true)
  if (!clusterFirst) return none(`its dnsPolicy is ${JSON.stringify(policy)}`)
  return {
    kind: 'patch',
    patch: [
      { op: 'add', path: '/spec/dnsPolicy', value: 'None' },
      { op: 'add', path: '/spec/dnsConfig', value: dnsConfig(spec['dnsConfig'], namespace, settings) }
    ]
  }
}

interface DnsConfig {
  readonly nameservers: readonly string[]
  readonly searches: readonly string[]
  readonly options: readonly unknown[]
}

const NAMESERVERS_MAX = 3
const SEARCHES_MAX = 32
const SEARCH_CHARACTERS_MAX = 2048

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

/** As many as fit on the one line of resolv.conf that they share. */
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

function none(reason: string): DnsPatch {
  return { kind: 'none', reason }
}
