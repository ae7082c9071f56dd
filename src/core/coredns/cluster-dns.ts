// Writes the mesh's zones into the cluster's own DNS: objects of the API in, patches out. src/io/cluster-dns reads
// the objects and sends the patches; `meshctl uninstall` removes them. There are three targets: the DNS operator of
// OpenShift (spec.servers), a marked block in the Corefile of the ConfigMap coredns, and a key of the ConfigMap
// coredns-custom where the Corefile imports it.
// Invariants
//   1. unwire(wire(x)) = x, byte for byte; wire(wire(x)) = wire(x).
//   2. A patch contains only the one field that the agents own. Where others write that field, too (Corefile,
//      servers), the patch has the resourceVersion that it was made for, so that no change in between is lost.
//   3. cluster.local and the zones above it are never taken over.
//   4. CoreDNS does not start when one zone is in two server blocks. So all three targets are searched for a server
//      of each zone, in every spelling. If there is one, nothing is written, the agents' own block is removed, and
//      the refusal names the place. Before anything is written, a parser with CoreDNS's own rules reads it back
//      (docs/decisions/0048).
import { readCorefile, unread } from './corefile-blocks.ts'
import { isFields, type Fields } from '../model/field-check.ts'
import { KUBERNETES_DOMAIN } from '../model/zones.ts'
import { fieldsAt, MERGE_PATCH, textAt, type KubeCall } from '../kube/kube-api.ts'

/** The place where the zones are written. */
export type WiringTarget = 'openshift' | 'coredns' | 'coredns-custom'

/** The objects as read from the API; undefined: the object does not exist. */
export interface ClusterDnsObjects {
  /** The DNS operator's object dns.operator.openshift.io "default". */
  readonly operator: Fields | undefined
  /** The ConfigMap "coredns". */
  readonly coredns: Fields | undefined
  /** The ConfigMap "coredns-custom". */
  readonly custom: Fields | undefined
}

/** The zones to forward and their servers. */
export interface MeshZones {
  /**
   * "cluster.east", "cluster.all", "102.10.in-addr.arpa": never the zone of the cluster itself. Empty: what was
   * written is removed.
   */
  readonly zones: readonly string[]
  /** The addresses of the mesh's DNS: "10.96.0.53" or "10.96.0.53:7953". */
  readonly servers: readonly string[]
}

/**
 * The result of an edit: the calls to send to the API server, or a refusal. An empty list of calls means that the
 * objects are as they should be.
 */
export type Wiring =
  | { readonly kind: 'calls'; readonly calls: readonly KubeCall[] }
  | {
      readonly kind: 'refused'
      readonly reason: string
      readonly fix: string
      /**
       * Calls to send in spite of the refusal: they remove the agents' own block, which would keep CoreDNS from
       * starting.
       */
      readonly calls?: readonly KubeCall[]
    }

/** The paths of the three objects at the API server. */
export const CLUSTER_DNS_PATHS = {
  operator: () => '/apis/operator.openshift.io/v1/dnses/default',
  coredns: (namespace: string) => `/api/v1/namespaces/${namespace}/configmaps/coredns`,
  custom: (namespace: string) => `/api/v1/namespaces/${namespace}/configmaps/coredns-custom`
} as const

/**
 * The zones of the mesh that the cluster's DNS should forward, without a final dot: all except the zone that it
 * serves itself and the zones above that.
 */
export function zonesToForward(zones: readonly string[], clusterDomain: string): readonly string[] {
  const served = plainZone(clusterDomain)
  return zones.map(plainZone).filter((zone) => zone !== served && !served.endsWith(`.${zone}`))
}

/** The target for a cluster with these objects; undefined: none of the three exists. */
export function chooseTarget({ operator, coredns, custom }: ClusterDnsObjects): WiringTarget | undefined {
  if (operator !== undefined) return 'openshift'
  if (coredns === undefined) return undefined
  // Where an installer owns the Corefile (AKS, k3s), it imports the keys *.server of coredns-custom.
  const imports = /^[ \t]*import[ \t]+\S*custom\/\*\.server[ \t]*\r?$/m.test(corefileOf(coredns))
  return imports && custom !== undefined ? 'coredns-custom' : 'coredns'
}

/**
 * The calls that make the cluster's DNS forward the zones. Throws a RangeError for a zone or server that is none,
 * because the text goes into a file that CoreDNS executes.
 */
export function wire(
  target: WiringTarget,
  objects: ClusterDnsObjects,
  options: { mesh: MeshZones; namespace: string }
): Wiring {
  const { mesh, namespace } = options
  check(mesh)
  if (mesh.zones.length === 0) return unwire(objects, namespace)
  const conflict = servedByOthers(target, objects, { mesh, namespace })
  if (conflict !== undefined) {
    const undone = unwire(objects, namespace)
    return undone.kind === 'refused' ? undone : { ...conflict, calls: undone.calls }
  }
  switch (target) {
    case 'openshift': {
      if (objects.operator === undefined)
        return missing(
          'dns.operator.openshift.io/default',
          'this cluster is not OpenShift: set cluster-dns to coredns or auto'
        )
      return serversCall(objects.operator, wireServers(serversOf(objects.operator), mesh))
    }
    case 'coredns': {
      if (objects.coredns === undefined)
        return missing(
          `ConfigMap ${namespace}/coredns`,
          'set cluster-dns-namespace to the namespace of CoreDNS, or set cluster-dns to another value'
        )
      return corefileCall(objects.coredns, namespace, wireCorefile(corefileOf(objects.coredns), mesh))
    }
    case 'coredns-custom': {
      if (objects.custom === undefined) {
        return missing(
          `ConfigMap ${namespace}/coredns-custom`,
          `create it: kubectl -n ${namespace} create configmap coredns-custom`
        )
      }
      const text = serverBlock(
        mesh,
        objects.coredns === undefined ? DNS_PORT : portOf(corefileOf(objects.coredns))
      )
      return customCall(objects.custom, namespace, text)
    }
    default:
      return target satisfies never
  }
}

/**
 * A refusal for the first zone of the mesh that a server block, or a server of the operator, serves already without
 * being written by the agents.
 */
function servedByOthers(
  target: WiringTarget,
  objects: ClusterDnsObjects,
  { mesh, namespace }: { mesh: MeshZones; namespace: string }
): { readonly kind: 'refused'; readonly reason: string; readonly fix: string } | undefined {
  const refused = (zone: string, place: string) => ({
    kind: 'refused' as const,
    reason: `${zone} already has a server block in ${place}; CoreDNS does not start when two server blocks have the same zone`,
    fix: `remove ${zone} from that server block, and the agents write a block of their own; or set cluster-dns: off`
  })
  if (target === 'openshift') {
    for (const server of unwireServers(serversOf(objects.operator ?? {}))) {
      const { name, zones } = isFields(server) ? server : {}
      for (const zone of Array.isArray(zones) ? zones : [])
        if (typeof zone === 'string' && mesh.zones.includes(plainZone(zone)))
          return refused(
            plainZone(zone),
            `spec.servers ${JSON.stringify(name)} of dns.operator.openshift.io/default`
          )
    }
    return undefined
  }
  const port = objects.coredns === undefined ? DNS_PORT : portOf(corefileOf(objects.coredns))
  for (const { place, configMap, text } of othersCorefiles(objects, namespace)) {
    const read = readCorefile(text)
    if (read.kind !== 'served') return unread(read, { place, configMap, namespace })
    const hit = read.zones.find(
      (served) => served.transport === 'dns' && served.port === port && mesh.zones.includes(served.zone)
    )
    if (hit !== undefined) return refused(hit.zone, `${place}, line ${hit.line}`)
  }
  return undefined
}

/**
 * The Corefile without the agents' block, and the keys of coredns-custom that it imports as server blocks, without
 * the agents' key.
 */
function othersCorefiles(
  { coredns, custom }: ClusterDnsObjects,
  namespace: string
): { readonly place: string; readonly configMap: string; readonly text: string }[] {
  const bare = coredns === undefined ? undefined : unwireCorefile(corefileOf(coredns))
  const texts = Object.entries(fieldsAt(custom ?? {}, 'data')).flatMap(([key, text]) =>
    key.endsWith('.server') && key !== CUSTOM_KEY && typeof text === 'string'
      ? [{ place: `key ${key} of ConfigMap ${namespace}/coredns-custom`, configMap: 'coredns-custom', text }]
      : []
  )
  return [
    ...(bare?.kind === 'text'
      ? [{ place: `the Corefile of ConfigMap ${namespace}/coredns`, configMap: 'coredns', text: bare.text }]
      : []),
    ...texts
  ]
}

/** The zone in lower case and without a final dot; the root stays ".". */
function plainZone(zone: string): string {
  return zone.toLowerCase().replace(/(?<=.)\.$/, '')
}

/**
 * The calls that remove everything that the agents wrote, from all three objects. It refuses only a block without its
 * begin or end mark.
 */
export function unwire(objects: ClusterDnsObjects, namespace: string): Wiring {
  const wirings = [
    objects.operator === undefined
      ? IN_STEP
      : serversCall(objects.operator, unwireServers(serversOf(objects.operator))),
    objects.coredns === undefined
      ? IN_STEP
      : corefileCall(objects.coredns, namespace, unwireCorefile(corefileOf(objects.coredns))),
    objects.custom === undefined ? IN_STEP : customCall(objects.custom, namespace, undefined)
  ]
  const refused = wirings.find((wiring) => wiring.kind === 'refused')
  return (
    refused ?? {
      kind: 'calls',
      calls: wirings.flatMap((wiring) => (wiring.kind === 'calls' ? wiring.calls : []))
    }
  )
}

// ------------------------------------------------------------------ the Corefile

type CorefileEdit =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'refused'; readonly reason: string; readonly fix: string }

const BEGIN = '# BEGIN rhizome'
const END = '# END rhizome'
const BLOCK =
  /^# BEGIN rhizome\b[^\n]*\n(?:(?!# BEGIN rhizome\b|# END rhizome\b)[^\n]*\n)*# END rhizome\b[^\n]*(?:\n|$)/gm
const DNS_PORT = 53
// 0: CoreDNS also asks a server that failed, because no other server knows these names.
const MAX_FAILS = 0
// The TTL of the mesh's own answers (src/core/dns/record.ts), in seconds.
const CACHE_SECONDS = 5

/**
 * The Corefile with the agents' block in front. Server blocks have no order, and the text behind it stays as it is.
 */
export function wireCorefile(text: string, mesh: MeshZones): CorefileEdit {
  const bare = unwireCorefile(text)
  if (bare.kind === 'refused') return bare
  if (!/\{[ \t]*\r?$/m.test(bare.text)) {
    return {
      kind: 'refused',
      reason: 'the server block of the Corefile has no braces',
      fix: 'write the block as ".:53 { … }": CoreDNS cannot load a second block beside one without braces'
    }
  }
  const block = `${BEGIN}: written by its agents, removed on uninstall\n${serverBlock(mesh, portOf(bare.text))}${END}\n`
  return { kind: 'text', text: block + bare.text }
}

/** The Corefile without the agents' block; refused when only one of the two marks is there. */
export function unwireCorefile(text: string): CorefileEdit {
  const bare = text.replace(BLOCK, '')
  if (!/^# (BEGIN|END) rhizome\b/m.test(bare)) return { kind: 'text', text: bare }
  return {
    kind: 'refused',
    reason: `the Corefile has only one of the marks "${BEGIN}" and "${END}"`,
    fix: 'delete that mark and the lines of its block: kubectl edit configmap coredns, in the namespace of CoreDNS'
  }
}

function serverBlock({ zones, servers }: MeshZones, port: number): string {
  const keys = zones.map((zone) => `${zone}:${port}`).join(' ')
  return `${keys} {\n    errors\n    cache ${CACHE_SECONDS}\n    forward . ${servers.join(' ')} {\n        max_fails ${MAX_FAILS}\n    }\n}\n`
}

/**
 * The port of the block that answers all other names, however its key is written. CoreDNS may listen on another port that
 * 53 is mapped to.
 */
function portOf(corefile: string): number {
  const read = readCorefile(corefile)
  const zones = read.kind === 'served' ? read.zones : []
  return zones.find(({ zone, transport }) => zone === '.' && transport === 'dns')?.port ?? DNS_PORT
}

function corefileOf(configMap: Fields): string {
  return textAt(configMap, 'data', 'Corefile') ?? ''
}

/** The patch for an edited Corefile; refused when CoreDNS could not load the result. */
function corefileCall(configMap: Fields, namespace: string, edit: CorefileEdit): Wiring {
  if (edit.kind === 'refused') return edit
  if (edit.text === corefileOf(configMap)) return IN_STEP
  const read = readCorefile(edit.text)
  if (read.kind !== 'served' && edit.text.startsWith(BEGIN))
    return {
      kind: 'refused',
      reason: `CoreDNS could not load the Corefile after the agents had added their block: ${read.reason}`,
      fix: `correct the Corefile: kubectl -n ${namespace} edit configmap coredns; or set cluster-dns: off, and add a forward of the zones to the Corefile`
    }
  return patch(CLUSTER_DNS_PATHS.coredns(namespace), { ...locked(configMap), data: { Corefile: edit.text } })
}

// ------------------------------------------------------------------ coredns-custom

const CUSTOM_KEY = 'rhizome.server'

/** The patch for the agents' key of coredns-custom; `text` undefined removes the key. */
function customCall(configMap: Fields, namespace: string, text: string | undefined): Wiring {
  if (textAt(configMap, 'data', CUSTOM_KEY) === text) return IN_STEP
  return patch(CLUSTER_DNS_PATHS.custom(namespace), { data: { [CUSTOM_KEY]: text ?? null } })
}

// ------------------------------------------------------------------ the DNS operator of OpenShift

const SERVER_NAME = 'rhizome'
// The type of the operator allows no more: "A maximum of 15 upstreams is allowed per ForwardPlugin" (openshift/api
// operator/v1).
const UPSTREAMS_MAX = 15

/**
 * Returns the operator's list of servers with the agents' entry. It replaces the entry of the same name; if there is
 * none, it is appended.
 */
export function wireServers(servers: readonly unknown[], mesh: MeshZones): readonly unknown[] {
  const ours = {
    name: SERVER_NAME,
    zones: mesh.zones,
    forwardPlugin: { policy: 'Random', upstreams: mesh.servers.slice(0, UPSTREAMS_MAX) }
  }
  const at = servers.findIndex(isOurs)
  return at < 0 ? [...servers, ours] : servers.map((server, index) => (index === at ? ours : server))
}

export function unwireServers(servers: readonly unknown[]): readonly unknown[] {
  return servers.filter((server) => !isOurs(server))
}

function isOurs(server: unknown): boolean {
  return isFields(server) && server['name'] === SERVER_NAME
}

function serversOf(operator: Fields): readonly unknown[] {
  const { servers } = fieldsAt(operator, 'spec')
  return Array.isArray(servers) ? servers : []
}

function serversCall(operator: Fields, servers: readonly unknown[]): Wiring {
  if (canonical(servers) === canonical(serversOf(operator))) return IN_STEP
  // When the list is empty, null removes the field `servers`, because the operator's type omits an empty list
  // (omitempty).
  return patch(CLUSTER_DNS_PATHS.operator(), {
    ...locked(operator),
    spec: { servers: servers.length === 0 ? null : servers }
  })
}

// ------------------------------------------------------------------ common

const IN_STEP: Wiring = { kind: 'calls', calls: [] }

function patch(path: string, body: object): Wiring {
  return { kind: 'calls', calls: [{ method: 'PATCH', path, contentType: MERGE_PATCH, body }] }
}

/** The resourceVersion of the object that was read, so that the API server refuses a patch for an older version. */
function locked(object: Fields): { metadata?: { resourceVersion: string } } {
  const resourceVersion = textAt(object, 'metadata', 'resourceVersion')
  return resourceVersion === undefined ? {} : { metadata: { resourceVersion } }
}

function missing(what: string, fix: string): Wiring {
  return { kind: 'refused', reason: `there is no ${what}`, fix }
}

/** JSON that does not depend on the order of keys, which the API server does not keep. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    isFields(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner
  )
}

const ZONE = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$/
const SERVER = /^(\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?|[0-9a-f:]+:[0-9a-f:]*|\[[0-9a-f:]+\]:\d{1,5})$/

/** Throws a RangeError unless all zones and servers may be written into a Corefile. */
function check({ zones, servers }: MeshZones): void {
  for (const zone of zones) {
    if (!ZONE.test(zone)) throw new RangeError(`not a DNS zone: ${JSON.stringify(zone)}`)
    if (zone === KUBERNETES_DOMAIN || zone.endsWith(`.${KUBERNETES_DOMAIN}`))
      throw new RangeError(`${zone} is a zone of the cluster itself`)
  }
  if (zones.length > 0 && servers.length === 0) throw new RangeError('the list of DNS servers is empty')
  for (const server of servers) {
    if (!SERVER.test(server))
      throw new RangeError(`not the address of a DNS server: ${JSON.stringify(server)}`)
  }
}
