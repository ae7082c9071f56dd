// What bench agents publish: themselves, their cluster, services and endpoint slices.
import {
  keyOf,
  type AgentValue,
  type Cidr,
  type EndpointSliceValue,
  type Ip,
  type ServiceValue,
  type Value
} from '../../src/core/model/values.ts'
import { tunnelKeyOf } from '../../src/core/trust/tunnel-key.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import type { AgentSpec } from './agents.ts'

export const ENDPOINTS_PER_SLICE = 100
/** The key of the service that `marker` makes, as a view has it. */
export const MARKER = 'bench/marker'

const crypto = createCrypto()

/** A service that says which change it is of. */
export function marker(spec: AgentSpec, change: number): ServiceValue {
  const ip = hostOf(spec.servicePrefix, 9)
  return service({ namespace: 'bench', name: 'marker', ip, affinitySeconds: change })
}

export function basics(spec: AgentSpec, multiaddrs: readonly string[]): { key: string; value: Value }[] {
  const agent: AgentValue = {
    kind: 'agent',
    tunnelKeys: [
      tunnelKeyOf({
        crypto,
        meshId: bytes(spec.meshId),
        agentKey: crypto.publicKeyOf(bytes(spec.seed)),
        seed: crypto.sha256(bytes(spec.seed))
      })
    ],
    wireguardAddresses: [],
    multiaddrs,
    tunnelAddress: undefined,
    node: 'gw-1',
    role: 'gateway',
    version: 'bench',
    probePort: 0
  }
  const cluster: Value = {
    kind: 'cluster',
    podPrefixes: [spec.podPrefix as Cidr],
    servicePrefixes: [spec.servicePrefix as Cidr],
    term: 1,
    complete: true
  }
  return [agent, cluster].map((value) => ({ key: keyOf(value), value }))
}

export function pair(spec: AgentSpec, index: number): readonly Value[] {
  const name = `svc-${index}`
  const slice: EndpointSliceValue = {
    kind: 'endpointSlice',
    namespace: 'bench',
    name: `${name}-abcde`,
    service: name,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: ENDPOINTS_PER_SLICE }, (_, pod) => ({
      addresses: [hostOf(spec.podPrefix, 1 + index * ENDPOINTS_PER_SLICE + pod)],
      ready: true,
      serving: true,
      terminating: false,
      hostname: '',
      node: `node-${pod % 50}`
    }))
  }
  return [
    slice,
    service({ namespace: 'bench', name, ip: hostOf(spec.servicePrefix, 10 + index), affinitySeconds: 0 })
  ]
}

function service(options: {
  namespace: string
  name: string
  ip: Ip
  affinitySeconds: number
}): ServiceValue {
  const { namespace, name, ip, affinitySeconds } = options
  return {
    kind: 'service',
    namespace,
    name,
    clusterIps: [ip],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: false,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
}

function hostOf(prefix: string, number: number): Ip {
  const base =
    (prefix.split('/')[0] ?? '').split('.').reduce((sum, part) => sum * 256 + Number(part), 0) + number
  return [24, 16, 8, 0].map((shift) => Math.floor(base / 2 ** shift) & 255).join('.') as Ip
}

/** From base64. */
export function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64'))
}
