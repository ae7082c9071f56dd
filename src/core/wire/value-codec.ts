// Record values: bytes from a peer to the types of model/values.ts, validated by type, and back. The view, the DNS
// process and the check of own records decode with it.
// Invariant: a value that decodeValue returns holds only canonical addresses, DNS names and bounded lists. No later
// code checks again, and every string in it may go to a file, a zone or a command line.
import { BALANCE_TEXT } from '../model/balance-policy.ts'
import { isSoundPoint } from '../model/ed25519-point.ts'
import { bytesToIp, cidrToPrefix, ipToBytes, parseIp, prefixToCidr } from '../model/cidr.ts'
import { decodeClusterset, encodeClusterset, TRAFFIC_DISTRIBUTION } from './clusterset-codec.ts'
import {
  bounded,
  externalName,
  InvalidField,
  label,
  matching,
  objectName,
  portName,
  present,
  unique
} from './value-fields.ts'
import { RECORD_BYTES_MAX } from './limits.ts'
import { parseClusterName } from '../model/identity.ts'
import {
  EXPORT_TO_MAX,
  keyOf,
  type AgentValue,
  type Cidr,
  type ClusterName,
  type ClusterValue,
  type Endpoint,
  type EndpointSliceValue,
  type HandOver,
  type Ip,
  type PeerAddress,
  type Protocol,
  type ServiceValue,
  type TunnelKey,
  type Value
} from '../model/values.ts'
import { decodeValueMessage, encodeMessage, wire, type PrefixMessage, type ValueMessage } from './messages.ts'
import { areZoneNumbers, isZoneTable, zoneNumbers, zonesOf, zoneTable } from './zone-table.ts'

/** `reason` is shown to people as the reason of a refusal. */
type DecodedValue =
  { readonly kind: 'value'; readonly value: Value } | { readonly kind: 'invalid'; readonly reason: string }

/**
 * The value of a record. It never throws: bytes that are not exactly a value of this key are `invalid`, with the
 * first reason found.
 */
export function decodeValue(key: string, bytes: Uint8Array): DecodedValue {
  if (bytes.length > RECORD_BYTES_MAX)
    return invalid(`the value has ${bytes.length} bytes, above the limit of ${RECORD_BYTES_MAX}`)
  const message = decodeValueMessage(bytes)
  if (!message) return invalid('the value cannot be decoded')
  try {
    const value = toValue(message)
    if (keyOf(value) !== key) return invalid(`the value has the key ${keyOf(value)}`)
    return { kind: 'value', value }
  } catch (error) {
    if (error instanceof InvalidField) return invalid(error.message)
    throw error
  }
}

/**
 * The bytes of a value. Equal values have equal bytes, because fields are written in a fixed order and lists in their
 * own order.
 */
export function encodeValue(value: Value): Uint8Array {
  switch (value.kind) {
    case 'agent':
      return encodeMessage(wire.Value, { agent: encodeAgent(value) })
    case 'cluster':
      return encodeMessage(wire.Value, {
        cluster: {
          podPrefixes: value.podPrefixes.map(cidrToPrefix),
          servicePrefixes: value.servicePrefixes.map(cidrToPrefix),
          term: value.term,
          complete: value.complete
        }
      })
    case 'service':
      return encodeMessage(wire.Value, { service: encodeService(value) })
    case 'endpointSlice':
      return encodeMessage(wire.Value, { endpointSlice: encodeEndpointSlice(value) })
    default:
      return value satisfies never
  }
}

/**
 * A tunnel key whose form is right: an Ed25519 key that is not of small order, and 64 bytes of proof. What the proof is
 * worth depends on the mesh and the agent (trust/tunnel-key.ts).
 */
function toTunnelKey({
  edKey,
  proof
}: {
  readonly edKey: Uint8Array
  readonly proof: Uint8Array
}): TunnelKey {
  if (!isSoundPoint(edKey)) throw new InvalidField('tunnelKeys has a malformed key or one of small order')
  if (proof.length !== PROOF_BYTES) throw new InvalidField('tunnelKeys has a malformed proof')
  return { edKey: toBase64(edKey), proof: toBase64(proof) }
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
}

function toBytes(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))
}

/**
 * An address for WireGuard: "203.0.113.7:51820" or "[2001:db8::1]:51820", with a canonical address and a port of 1 …
 * 65535; undefined for any other text.
 */
export function parsePeerAddress(text: string): PeerAddress | undefined {
  const match = /^(?:\[([0-9a-f:]{2,45})\]|([0-9.]{7,15})):([1-9][0-9]{0,4})$/.exec(text)
  const address = match?.[1] ?? match?.[2]
  if (address === undefined || parseIp(address) !== address || Number(match?.[3]) > PORT_MAX) return undefined
  return text as PeerAddress
}

const PROOF_BYTES = 64
// The second one is the new key while the key is being changed.
const TUNNEL_KEYS_MAX = 2
const PORT_MAX = 65_535
// Bounds of lists. Where Kubernetes has a bound, it is the same (EndpointSlice: 1,000 endpoints, 20,000 ports, 100
// addresses for each endpoint; ClientIP affinity: one day). The others are far above what a real site has. A record
// of 64 KiB holds about 4,000 ports.
export const ENDPOINTS_MAX = 1000
const PORTS_MAX = 20_000
export const ADDRESSES_MAX = 100
const CLUSTER_IPS_MAX = 8
const PREFIXES_MAX = 256
// Kubernetes gives each node one pod prefix of each family.
/** Most pod prefixes of one host. */
export const NODE_PREFIXES_MAX = 16
export const PEER_ADDRESSES_MAX = 16
export const MULTIADDRS_MAX = 16
/** Mbit/s: the range of the settings tcp-path-rate and relay-rate. */
export const RELAY_RATE_MAX = 10_000
const AFFINITY_SECONDS_MAX = 86_400

function toValue(message: ValueMessage): Value {
  if (message.agent) return toAgent(message.agent)
  if (message.cluster) return toCluster(message.cluster)
  if (message.service) return toService(message.service)
  if (message.endpointSlice) return toEndpointSlice(message.endpointSlice)
  throw new InvalidField('this version does not know the kind of the value')
}

function toAgent(agent: NonNullable<ValueMessage['agent']>): AgentValue {
  const tunnelKeys = bounded('tunnelKeys', agent.tunnelKeys, TUNNEL_KEYS_MAX).map(toTunnelKey)
  if (tunnelKeys.length === 0) throw new InvalidField('tunnelKeys is empty')
  const wireguardAddresses = bounded('wireguardAddresses', agent.wireguardAddresses, PEER_ADDRESSES_MAX)
  const multiaddrs = bounded('multiaddrs', agent.multiaddrs, MULTIADDRS_MAX)
  const nodePrefixes = toCidrs('nodePrefixes', bounded('nodePrefixes', agent.nodePrefixes, NODE_PREFIXES_MAX))
  if (agent.role !== 'gateway' && agent.role !== 'node') throw new InvalidField('role is not gateway or node')
  return {
    kind: 'agent',
    tunnelKeys,
    wireguardAddresses: wireguardAddresses.map((text) =>
      present('wireguardAddresses', parsePeerAddress(text))
    ),
    multiaddrs: multiaddrs.map((text) => matching('multiaddrs', text, MULTIADDR)),
    tunnelAddress: agent.tunnelAddress.length === 0 ? undefined : toIp('tunnelAddress', agent.tunnelAddress),
    node: agent.node === '' ? '' : objectName('node', agent.node),
    role: agent.role,
    version: matching('version', agent.version, VERSION),
    probePort: agent.probePort === 0 ? 0 : port('probePort', agent.probePort),
    ...(nodePrefixes.length > 0 && { nodePrefixes }),
    ...(agent.handOver !== wire.HandOver.HAND_OVER_NONE && { handOver: toHandOver(agent.handOver) }),
    ...(agent.relayRate > 0 && { relayRate: rate('relayRate', agent.relayRate) })
  }
}

/** A later version may have further reasons. The record must not be refused for it, and what they ask for is the same. */
function toHandOver(reason: (typeof HAND_OVERS)[HandOver] | 0): HandOver {
  return reason === HAND_OVERS.stopping ? 'stopping' : 'drained'
}

const HAND_OVERS = {
  drained: wire.HandOver.HAND_OVER_DRAINED,
  stopping: wire.HandOver.HAND_OVER_STOPPING
} as const satisfies Record<HandOver, number>

// "/ip4/203.0.113.7/tcp/4001", "/dns4/gw.example.com/tcp/4001": components of plain characters, 256 characters at
// most.
const MULTIADDR = /^(?=.{1,256}$)(?:\/[a-z0-9][a-zA-Z0-9.:_-]*)(?:\/[a-zA-Z0-9:][a-zA-Z0-9.:_-]*)+$/
const VERSION = /^[a-zA-Z0-9.+_-]{0,64}$/

function toCluster(cluster: NonNullable<ValueMessage['cluster']>): ClusterValue {
  if (cluster.term < 1) throw new InvalidField('term is below 1')
  return {
    kind: 'cluster',
    podPrefixes: toCidrs('podPrefixes', cluster.podPrefixes),
    servicePrefixes: toCidrs('servicePrefixes', cluster.servicePrefixes),
    term: cluster.term,
    complete: cluster.complete
  }
}

function toService(service: NonNullable<ValueMessage['service']>): ServiceValue {
  const clusterIps = bounded('clusterIps', service.clusterIps, CLUSTER_IPS_MAX)
  const ports = bounded('ports', service.ports, PORTS_MAX).map((item) => ({
    name: portName(item.name),
    protocol: toProtocol(item.protocol),
    port: port('ports', item.port),
    appProtocol: matching('appProtocol', item.appProtocol, APP_PROTOCOL)
  }))
  unique('ports', ports, { key: (item) => `${item.protocol}:${item.port}`, what: 'protocol and port' })
  if (service.headless && clusterIps.length > 0) throw new InvalidField('a headless service has clusterIps')
  if (service.externalName !== '' && clusterIps.length > 0)
    throw new InvalidField('a service with an externalName has clusterIps')
  if (service.affinitySeconds > AFFINITY_SECONDS_MAX)
    throw new InvalidField(`affinitySeconds is above ${AFFINITY_SECONDS_MAX} (one day)`)
  return {
    kind: 'service',
    namespace: label('namespace', service.namespace),
    name: label('name', service.name),
    clusterIps: clusterIps.map((bytes) => toIp('clusterIps', bytes)),
    ports,
    headless: service.headless,
    externalName: service.externalName === '' ? '' : externalName(service.externalName),
    affinitySeconds: service.affinitySeconds,
    publishNotReady: service.publishNotReady,
    // A policy that this version does not understand is still a valid record.
    ...(service.balance !== '' && { balance: matching('balance', service.balance, BALANCE_TEXT) }),
    ...(service.clusterset && { clusterset: present('clusterset', decodeClusterset(service.clusterset)) }),
    ...(service.trafficDistribution !== '' && {
      trafficDistribution: matching('trafficDistribution', service.trafficDistribution, TRAFFIC_DISTRIBUTION)
    }),
    ...exportToOf(bounded('exportTo', service.exportTo, EXPORT_TO_MAX))
  }
}

function clusterName(text: string): ClusterName {
  const parsed = parseClusterName(text)
  if (parsed.kind === 'invalid') throw new InvalidField(`exportTo: ${parsed.reason}`)
  return parsed.clusterName
}

/** The clusters that see a service; no field when the list is empty, which means all. */
function exportToOf(names: readonly string[]): Pick<ServiceValue, 'exportTo'> {
  const [first, ...others] = names.map(clusterName)
  if (first === undefined) return {}
  if (names.some((name, index) => index > 0 && (names[index - 1] ?? '') >= name))
    throw new InvalidField('exportTo is not in order, or has a name twice')
  return { exportTo: [first, ...others] }
}

// IANA service names and names with a domain prefix ("kubernetes.io/h2c"): a prefix of 253 characters, a slash and a
// name of 63.
const APP_PROTOCOL = /^[a-zA-Z0-9./_-]{0,317}$/

function toEndpointSlice(slice: NonNullable<ValueMessage['endpointSlice']>): EndpointSliceValue {
  const ports = bounded('ports', slice.ports, PORTS_MAX).map((item) => ({
    name: portName(item.name),
    protocol: toProtocol(item.protocol),
    port: port('ports', item.port)
  }))
  unique('ports', ports, { key: (item) => `${item.protocol}:${item.name}`, what: 'protocol and name' })
  if (!isZoneTable(slice.zones))
    throw new InvalidField('zones has too many names, a malformed one or one twice')
  return {
    kind: 'endpointSlice',
    namespace: label('namespace', slice.namespace),
    name: objectName('name', slice.name),
    service: label('service', slice.service),
    ports,
    endpoints: bounded('endpoints', slice.endpoints, ENDPOINTS_MAX).map((each) =>
      toEndpoint(each, slice.zones)
    )
  }
}

type EndpointMessage = NonNullable<ValueMessage['endpointSlice']>['endpoints'][number]

function toEndpoint(endpoint: EndpointMessage, zones: readonly string[]): Endpoint {
  const addresses = bounded('addresses', endpoint.addresses, ADDRESSES_MAX)
  if (addresses.length === 0) throw new InvalidField('an endpoint has no address')
  if (!areZoneNumbers(endpoint.zone, endpoint.forZones, zones.length))
    throw new InvalidField('zone or forZones of an endpoint is no number of zones, or has one twice')
  return {
    addresses: addresses.map((bytes) => toIp('addresses', bytes)),
    ready: endpoint.ready,
    serving: endpoint.serving,
    terminating: endpoint.terminating,
    hostname: endpoint.hostname === '' ? '' : label('hostname', endpoint.hostname),
    node: endpoint.node === '' ? '' : objectName('node', endpoint.node),
    ...zonesOf(endpoint, zones)
  }
}

function encodeAgent(agent: AgentValue) {
  return {
    tunnelKeys: agent.tunnelKeys.map(({ edKey, proof }) => ({
      edKey: toBytes(edKey),
      proof: toBytes(proof)
    })),
    wireguardAddresses: [...agent.wireguardAddresses],
    multiaddrs: [...agent.multiaddrs],
    tunnelAddress: agent.tunnelAddress === undefined ? new Uint8Array() : ipToBytes(agent.tunnelAddress),
    node: agent.node,
    role: agent.role,
    version: agent.version,
    probePort: agent.probePort,
    nodePrefixes: (agent.nodePrefixes ?? []).map(cidrToPrefix),
    ...(agent.handOver !== undefined && { handOver: HAND_OVERS[agent.handOver] }),
    relayRate: agent.relayRate ?? 0
  }
}

function encodeService(service: ServiceValue) {
  return {
    namespace: service.namespace,
    name: service.name,
    clusterIps: service.clusterIps.map(ipToBytes),
    ports: service.ports.map((item) => ({ ...item, protocol: wire.Protocol[item.protocol] })),
    headless: service.headless,
    externalName: service.externalName,
    affinitySeconds: service.affinitySeconds,
    publishNotReady: service.publishNotReady,
    balance: service.balance ?? '',
    trafficDistribution: service.trafficDistribution ?? '',
    ...(service.clusterset && { clusterset: encodeClusterset(service.clusterset) }),
    exportTo: [...(service.exportTo ?? [])]
  }
}

function encodeEndpointSlice(slice: EndpointSliceValue) {
  const zones = zoneTable(slice.endpoints)
  const numbers = new Map(zones.map((zone, index) => [zone, index + 1]))
  return {
    namespace: slice.namespace,
    name: slice.name,
    service: slice.service,
    ports: slice.ports.map((item) => ({ ...item, protocol: wire.Protocol[item.protocol] })),
    endpoints: slice.endpoints.map((item) => ({
      ...item,
      addresses: item.addresses.map(ipToBytes),
      ...zoneNumbers(item, numbers)
    })),
    zones: [...zones]
  }
}

function toProtocol(number: number): Protocol {
  const protocol = PROTOCOLS.get(number)
  if (!protocol) throw new InvalidField('protocol is not TCP, UDP or SCTP')
  return protocol
}

const PROTOCOLS: ReadonlyMap<number, Protocol> = new Map([
  [wire.Protocol.TCP, 'TCP'],
  [wire.Protocol.UDP, 'UDP'],
  [wire.Protocol.SCTP, 'SCTP']
])

function toIp(field: string, bytes: Uint8Array): Ip {
  return present(field, bytesToIp(bytes))
}

function toCidrs(field: string, prefixes: readonly PrefixMessage[]): readonly Cidr[] {
  return bounded(field, prefixes, PREFIXES_MAX).map((prefix) => present(field, prefixToCidr(prefix)))
}

function port(field: string, number: number): number {
  if (number < 1 || number > PORT_MAX) throw new InvalidField(`${field} has a port outside 1 … 65535`)
  return number
}

function rate(field: string, megabits: number): number {
  if (megabits > RELAY_RATE_MAX)
    throw new InvalidField(`${field} is ${megabits} Mbit/s, above the limit of ${RELAY_RATE_MAX}`)
  return megabits
}

function invalid(reason: string): DecodedValue {
  return { kind: 'invalid', reason }
}
