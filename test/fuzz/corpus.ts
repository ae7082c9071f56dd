// Sound bytes to begin with: what real agents of a small mesh say to one another. The same in every run, keys too.
import { encodeValue } from '../../src/core/wire/value-codec.ts'
import { deltaFrames } from '../../src/core/replication/delta-frames.ts'
import { signHead, toSignedHead, type Head } from '../../src/core/replication/head.ts'
import {
  keyOf,
  type AgentValue,
  type Cidr,
  type ClusterName,
  type ClusterValue,
  type EndpointSliceValue,
  type Ip,
  type Origin,
  type PeerAddress,
  type ServiceValue,
  type Value
} from '../../src/core/model/values.ts'
import type { Operation, StoredRecord } from '../../src/core/replication/record.ts'
import { StateHash } from '../../src/core/replication/state-hash.ts'
import type { Crypto } from '../../src/core/model/crypto.ts'
import { barBySeat, decide, grant, voidBySeat } from '../../src/core/trust/author/command.ts'
import { itemsFrames } from '../../src/core/trust/exchange/frames.ts'
import { encodeInviteToken } from '../../src/core/trust/invite-token.ts'
import { tunnelKeyOf } from '../../src/core/trust/tunnel-key.ts'
import { decodeTrustItem, encodeFrame, encodeMessage, wire } from '../../src/core/wire/messages.ts'
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import {
  agentOf as certify,
  invite as inviteOf,
  join as joinOf,
  makeMesh,
  NOW,
  type TestAgent
} from '../core/trust/fixtures.ts'
import { Random } from '../sim/random.ts'
import { noise } from './mutate.ts'

const random = new Random(1)
export const crypto: Crypto = { ...createCrypto(), random: (bytes) => noise(random, bytes) }

export { NOW, type TestAgent }

const { cluster: WEST, pods: WEST_PODS, services: WEST_SERVICES } = terms('west', 1)
export const mesh = makeMesh(WEST, WEST_PODS, WEST_SERVICES, crypto)
const eastCluster = join('east', 2)
/** The victim, two honest members, and a member that signs whatever it likes. */
export const west = agentOf(mesh.founder)
export const east = agentOf(eastCluster)
export const east2 = agentOf(eastCluster, 'gw-2')
export const north = agentOf(join('north', 3))
const stranger = agentOf(makeMesh(WEST, WEST_PODS, WEST_SERVICES, crypto).founder)

export const AGENTS: readonly TestAgent[] = [west, east, east2, north]
export const CREDENTIALS: readonly Uint8Array[] = [...AGENTS, stranger].map(
  ({ credential }) => credential.bytes
)

const BOOTSTRAP = [
  `/ip4/203.0.113.7/tcp/7946/p2p/${west.credential.origin}`,
  `/dns4/gw.example.com/tcp/1/p2p/${east.credential.origin}`
]
export const INVITES = [inviteOf(mesh, terms('east', 2)), inviteOf(mesh, terms('south', 4))]
export const TOKEN_TEXTS = INVITES.map(({ item: inviteItem, inviteSeed }) =>
  encodeInviteToken(crypto, { roots: mesh.roots, inviteItem, inviteSeed, bootstrap: BOOTSTRAP })
)
/** Token messages, without prefix and checksum. */
export const TOKENS = INVITES.map(({ item, inviteSeed }) =>
  encodeMessage<object>(wire.InviteToken, {
    k: mesh.roots.k,
    rootKeys: mesh.roots.keys,
    item: decodeTrustItem(item),
    inviteSeed,
    bootstrap: BOOTSTRAP
  })
)

const { clusterKey: EAST_KEY } = east.credential
const barred = barBySeat(mesh, mesh, { target: { cluster: EAST_KEY } })
/** Items of the trust set: how clusters became members, and a command of each kind. */
export const ITEMS: readonly Uint8Array[] = [
  mesh.founder.clusterItem,
  eastCluster.clusterItem,
  join('east', 5).clusterItem,
  join('north', 3).clusterItem,
  barred.item,
  grant(mesh, mesh, {
    clusterKey: EAST_KEY,
    add: { pods: ['10.6.0.0/16' as Cidr], services: [] },
    drop: ['10.2.7.0/24' as Cidr]
  }).item,
  decide(mesh, mesh, { name: 'east' as ClusterName, clusterKey: EAST_KEY }).item,
  voidBySeat(mesh, mesh, { target: barred.id, keep: [] }).item
]
/** The bodies of all statements in ITEMS and CREDENTIALS. */
export const BODIES: readonly Uint8Array[] = [...ITEMS, ...CREDENTIALS].flatMap((item) =>
  (decodeTrustItem(item)?.statements ?? []).map(({ body }) => body)
)

function terms(cluster: string, number: number) {
  return {
    cluster,
    pods: [`10.${number}.0.0/16`, `fd0${number}::/48`],
    services: [`10.10${number}.0.0/16`]
  }
}

function join(name: string, number: number) {
  return joinOf(mesh, terms(name, number), number)
}

function agentOf(cluster: ReturnType<typeof join>, node = 'gw-1'): TestAgent {
  return certify(cluster, node, 1, crypto.random(32))
}

// ------------------------------------------------------------------ values

const agentValue: AgentValue = {
  kind: 'agent',
  tunnelKeys: [1, 2].map((each) =>
    tunnelKeyOf({
      crypto,
      meshId: mesh.meshId,
      agentKey: crypto.publicKeyOf(west.seed),
      seed: crypto.sha256(Uint8Array.of(each))
    })
  ),
  wireguardAddresses: [
    '203.0.113.7:51820',
    '[2001:db8::1]:51820'
  ] as readonly string[] as readonly PeerAddress[],
  multiaddrs: ['/ip4/203.0.113.7/tcp/7946', '/dns4/gw.example.com/tcp/7946'],
  tunnelAddress: '10.2.255.1' as Ip,
  node: 'gw-1.example.com',
  role: 'gateway',
  version: '0.1.0-rc.1+abc',
  probePort: 7947
}
const clusterValue: ClusterValue = {
  kind: 'cluster',
  podPrefixes: ['10.2.0.0/16', 'fd02::/48'] as readonly string[] as readonly Cidr[],
  servicePrefixes: ['10.102.0.0/16'] as readonly string[] as readonly Cidr[],
  term: 3,
  complete: true
}

export function service(name: string, affinitySeconds = 0): ServiceValue {
  return {
    kind: 'service',
    namespace: 'shop',
    name,
    clusterIps: ['10.102.0.7', 'fd02::7'] as readonly string[] as readonly Ip[],
    ports: [
      { name: 'http', protocol: 'TCP', port: 80, appProtocol: 'kubernetes.io/h2c' },
      { name: 'dns', protocol: 'UDP', port: 53, appProtocol: '' }
    ],
    headless: false,
    externalName: '',
    affinitySeconds,
    publishNotReady: false
  }
}

function slice(name: string, endpoints: number): EndpointSliceValue {
  return {
    kind: 'endpointSlice',
    namespace: 'shop',
    name: `${name}-abc12`,
    service: name,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: endpoints }, (_, index) => ({
      addresses: [`10.2.1.${index + 1}` as Ip],
      ready: index % 3 !== 0,
      serving: true,
      terminating: false,
      hostname: index === 0 ? 'web-0' : '',
      node: 'node-1'
    }))
  }
}

const external: ServiceValue = { ...service('mail'), clusterIps: [], externalName: 'mail.example.com' }

export const VALUES = [
  agentValue,
  clusterValue,
  service('web', 10),
  external,
  slice('web', 5),
  slice('many', 100)
].map((value) => ({ key: keyOf(value), bytes: encodeValue(value) }))

// ------------------------------------------------------------------ histories

/** What an origin once was: the records at a head that it signed. */
export interface State {
  readonly head: Head
  readonly records: ReadonlyMap<string, StoredRecord>
}

/** Signs any state at all; `origin`: in another's name. */
export function sign(
  agent: TestAgent,
  records: readonly StoredRecord[],
  place: { readonly epoch: number; readonly seq: number; readonly prevSeq: number; readonly origin?: Origin }
): Head {
  const hash = new StateHash(crypto)
  for (const record of records) hash.set(record)
  const { origin } = agent.credential
  return signHead(
    crypto,
    { seed: agent.seed, meshId: mesh.meshId },
    { origin, ...place, stateHash: hash.root() }
  )
}

export interface History {
  readonly agent: TestAgent
  readonly origin: Origin
  /** Oldest first; two epochs. */
  readonly states: readonly State[]
  /** Frames that carry them, as they were pushed, pulled whole and pulled in parts. */
  readonly frames: readonly Uint8Array[]
}

export function historyOf(agent: TestAgent): History {
  const states: State[] = []
  const frames: Uint8Array[] = []
  const credential = agent.credential.bytes
  for (const epoch of [1, 2]) {
    let records = new Map<string, StoredRecord>()
    let seq = 0
    for (let batch = 0; batch < 6; batch++) {
      const prevSeq = seq
      const operations: Operation[] = batchOf(epoch, batch).map(({ key, value }) => ({
        key,
        seq: ++seq,
        value: value && encodeValue(value)
      }))
      records = new Map(records)
      for (const { key, seq: at, value } of operations) {
        if (value === undefined) records.delete(key)
        else records.set(key, { key, seq: at, value })
      }
      const whole = [...records.values()].sort((left, right) => left.seq - right.seq)
      const head = sign(agent, whole, { epoch, seq, prevSeq })
      states.push({ head, records })
      frames.push(...deltaFrames({ head, fromSeq: prevSeq, operations, partBytes: 64 * 1024 }))
      frames.push(
        ...deltaFrames({
          head,
          fromSeq: 0,
          operations: whole,
          credential,
          partBytes: batch % 2 === 0 ? 300 : 64 * 1024
        })
      )
    }
  }
  return { agent, origin: agent.credential.origin, states, frames }
}

function batchOf(epoch: number, batch: number): readonly { key: string; value: Value | undefined }[] {
  const add = (value: Value) => ({ key: keyOf(value), value })
  switch (batch) {
    case 0:
      return [add(agentValue), add({ ...clusterValue, term: epoch })]
    case 1:
      return [add(slice('web', 3)), add(service('web', epoch))]
    case 2:
      return [add(slice('cart', 40)), add(service('cart'))]
    case 3:
      return [{ key: 'svc/shop/cart', value: undefined }]
    case 4:
      return [add(slice('cart', 39)), add(service('cart', 5)), add(service('extra'))]
    default:
      return [{ key: 'svc/shop/extra', value: undefined }, add(service('web', 60 + epoch))]
  }
}

export const EAST_HISTORY = historyOf(east)
export const EAST2_HISTORY = historyOf(east2)
export const NORTH_HISTORY = historyOf(north)

const origins = AGENTS.map(({ credential }) => credential.origin)
const twins = [1, 2].map((affinity) => {
  const value = encodeValue(service('twin', affinity))
  return sign(east2, [{ key: 'svc/shop/twin', seq: 1, value }], { epoch: 2, seq: 1, prevSeq: 0 })
})
const [firstTwin, secondTwin] = twins
if (firstTwin === undefined || secondTwin === undefined) throw new Error('two heads make a proof')

/** East2 signed two states for one position. */
export const PROOF = encodeFrame({
  equivocation: { first: toSignedHead(firstTwin), second: toSignedHead(secondTwin) }
})

/** Everything but deltas and what only opens a connection. */
export const SMALL_FRAMES = [
  encodeFrame({
    heads: { heads: origins.map((origin) => ({ origin, epoch: 2, seq: 9, check: 77 })), all: true }
  }),
  encodeFrame({ pull: { origin: origins[0] ?? '', epoch: 1, fromSeq: 0 } }),
  encodeFrame({
    pull: { origin: origins[1] ?? '', epoch: 2, fromSeq: 3, afterSeq: 1, atSeq: 9, window: 1000 }
  }),
  encodeFrame({ ping: { id: 5, digest: 0xdeadbeef } }),
  encodeFrame({ pong: { id: 1 } }),
  encodeFrame({ prune: { origins } }),
  encodeFrame({ graft: { origins } }),
  PROOF
]

export const FRAMES: readonly Uint8Array[] = [
  ...EAST_HISTORY.frames,
  ...NORTH_HISTORY.frames,
  ...SMALL_FRAMES,
  encodeFrame({
    hello: {
      versionMin: 1,
      versionMax: 1,
      meshId: mesh.meshId,
      credential: east.credential.bytes,
      nonce: new Uint8Array(32).fill(9),
      unixSeconds: NOW,
      software: 'rhizome/0.1.0'
    }
  }),
  encodeFrame({ proof: { signature: new Uint8Array(64).fill(1) } }),
  encodeFrame({ reject: { code: wire.RejectCode.CLOCK, detail: 'the clock' } }),
  encodeFrame({ trustHead: { root: new Uint8Array(32).fill(3), count: 7 } }),
  ...itemsFrames(ITEMS, true, { frameBytes: 2000, itemsOfFrame: 3 })
]
export const HEADS: readonly Uint8Array[] = [...EAST_HISTORY.states, ...NORTH_HISTORY.states].map(
  ({ head }) => head.bytes
)
