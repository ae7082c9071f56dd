// A node of a Maelstrom cluster on the production replication core (src/core/replication/protocol.ts): JSON lines in, JSON lines out, no I/O.
// Each node is an origin. A value that a client adds is a record of the node it was given to: a Service named "v<number>".
// Frames between nodes travel as base64 in messages of type "frame". Workloads: `broadcast` and `g-set`, told apart by the
// topology that only `broadcast` sends; Maelstrom takes no answer with fields beyond those of its workload.
// Invariants
//   1. An acknowledged value has been written to `disk` before its acknowledgement leaves, as Persist asks of the daemon.
//   2. A node restarted with its disk has lost nothing that was acknowledged.
import { decodeValue } from '../../src/core/wire/value-codec.ts'
import type { Crypto } from '../../src/core/model/crypto.ts'
import { keyOf, type Origin, type ServiceValue } from '../../src/core/model/values.ts'
import { originOf, publicKeyOf } from '../../src/core/model/identity.ts'
import {
  createProtocol,
  type Effect,
  type Persist,
  type Protocol,
  type StoredOrigin
} from '../../src/core/replication/protocol.ts'
import type { Admission } from '../../src/core/trust/admission.ts'
import type { StoredRecord } from '../../src/core/replication/record.ts'
import type { Body, Message } from './message.ts'

/** What a node keeps when its process is killed. */
export type Disk = Map<
  Origin,
  { head: Uint8Array; credential: Uint8Array | undefined; records: Map<string, StoredRecord> }
>

/** How often `tick` is due. */
export const TICK_MS = 200

export class MaelstromNode {
  readonly #crypto: Crypto
  readonly #disk: Disk
  readonly #out: Message[] = []
  /** Who is who in this cluster; filled by `init`. */
  readonly #origins = new Map<string, Origin>()
  readonly #names = new Map<Origin, string>()
  #id = ''
  #protocol: Protocol | undefined
  #workload: 'broadcast' | 'g-set' = 'g-set'
  #nextMessage = 1
  /** Frames that the core refused, by reason. */
  readonly refused: Record<string, number> = {}

  constructor(crypto: Crypto, disk: Disk = new Map()) {
    this.#crypto = crypto
    this.#disk = disk
  }

  /** Answers what is to be sent, in order. */
  receive(message: Message, nowMs: number): readonly Message[] {
    const { src, body } = message
    if (body.type === 'init') this.#init(body, nowMs)
    else if (body.type === 'frame') {
      const peer = this.#origins.get(src)
      // Before init nobody is known. What is lost here is pulled later, as after any broken connection.
      if (peer === undefined || this.#protocol === undefined) return []
      this.#run(this.#protocol.receive(peer, Buffer.from(String(body['frame']), 'base64'), nowMs))
      return this.#out.splice(0)
    }
    const answer = this.#answer(body, nowMs)
    if (body.msg_id !== undefined) this.#say(src, { ...answer, in_reply_to: body.msg_id })
    return this.#out.splice(0)
  }

  tick(nowMs: number): readonly Message[] {
    if (this.#protocol !== undefined) this.#run(this.#protocol.tick(nowMs))
    return this.#out.splice(0)
  }

  #answer(body: Body, nowMs: number): Body {
    if (this.#protocol === undefined) return error(11, 'not initialised')
    switch (body.type) {
      case 'init':
        return { type: 'init_ok' }
      case 'topology':
        return this.#connect(body['topology'], nowMs)
      case 'broadcast':
        return this.#add(body['message'], 'broadcast_ok', nowMs)
      case 'add':
        return this.#add(body['element'], 'add_ok', nowMs)
      case 'read': {
        const values = this.#read(this.#protocol)
        return this.#workload === 'broadcast'
          ? { type: 'read_ok', messages: values }
          : { type: 'read_ok', value: values }
      }
      default:
        return error(10, `no such request: ${body.type}`)
    }
  }

  #init(body: Body, nowMs: number): void {
    const names = body['node_ids']
    this.#id = String(body['node_id'])
    if (!Array.isArray(names)) throw new TypeError('init without node_ids')
    for (const name of names.map(String)) {
      const origin = originOf(this.#crypto.publicKeyOf(seedOf(this.#crypto, name)))
      this.#origins.set(name, origin)
      this.#names.set(origin, name)
    }
    const self = this.#origins.get(this.#id)
    if (self === undefined) throw new Error('init names a node that is not of its cluster')
    this.#protocol = createProtocol({
      self,
      selfSeed: seedOf(this.#crypto, this.#id),
      meshId: this.#crypto.sha256(utf8('maelstrom mesh')),
      crypto: this.#crypto,
      admission: this.#admission()
    })
    this.#run(this.#protocol.restore(restored(this.#disk)))
    this.#connectTo([...this.#origins.values()], nowMs)
  }

  /** Everyone at first; the neighbours of the topology once there is one. */
  #connect(topology: unknown, nowMs: number): Body {
    if (!isFields(topology)) return error(12, 'topology is no mapping')
    const own = topology[this.#id]
    const names = Array.isArray(own) ? own.map(String) : []
    this.#workload = 'broadcast'
    this.#connectTo(
      names.flatMap((name) => this.#origins.get(name) ?? []),
      nowMs
    )
    return { type: 'topology_ok' }
  }

  #connectTo(wanted: readonly Origin[], nowMs: number): void {
    const protocol = this.#protocol
    if (protocol === undefined) return
    const have = new Set(protocol.peers())
    for (const peer of have) if (!wanted.includes(peer)) this.#run(protocol.peerDown(peer))
    for (const peer of wanted) {
      if (peer !== this.#origins.get(this.#id) && !have.has(peer)) this.#run(protocol.peerUp(peer, nowMs))
    }
  }

  #add(value: unknown, type: string, nowMs: number): Body {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      return error(10, 'values are integers from 0 to 2^53 - 1')
    const service = toService(value)
    const change = { key: keyOf(service), value: service }
    const effects = this.#protocol?.publish([change], nowMs) ?? []
    this.#run(effects)
    const refusal = effects.find((effect) => effect.kind === 'refused')
    return refusal === undefined ? { type } : error(11, refusal.reason)
  }

  #read(protocol: Protocol): readonly number[] {
    const values = new Set<number>()
    for (const origin of protocol.origins()) {
      for (const { key, value } of protocol.records(origin).values()) {
        const decoded = decodeValue(key, value)
        const number = decoded.kind === 'value' ? fromValue(decoded.value) : undefined
        if (number === undefined) throw new Error(`${key} is no value of ours`)
        values.add(number)
      }
    }
    return [...values]
  }

  #run(effects: readonly Effect[]): void {
    for (const effect of effects) {
      // Its disk keeps no parts of unfinished states: what would adopt them is written whole.
      if (effect.kind === 'persist')
        persist(this.#disk, (effect.adopts && this.#protocol?.whole(effect.origin)) || effect)
      else if (effect.kind === 'send') {
        const to = this.#names.get(effect.to)
        const frame = Buffer.from(effect.frame).toString('base64')
        if (to !== undefined) this.#say(to, { type: 'frame', frame })
      } else if (effect.kind === 'whenSent') this.#run(this.#protocol?.sent(effect.to) ?? [])
      else if (effect.kind === 'refused') this.refused[effect.reason] = (this.refused[effect.reason] ?? 0) + 1
    }
  }

  #say(dest: string, body: Body): void {
    this.#out.push({ src: this.#id, dest, body: { ...body, msg_id: this.#nextMessage++ } })
  }

  /** For tests only: the node ids of the cluster are its members, and a credential is the name of its node. */
  #admission(): Admission {
    const names = this.#names
    const admitted = new Set<Origin>(this.#origins.values())
    return {
      isAdmitted: (origin) => admitted.has(origin),
      clusterOf: () => undefined,
      admit: (origin, credential) =>
        Buffer.from(credential).toString() === names.get(origin)
          ? { kind: 'admitted' }
          : { kind: 'refused', reason: 'not a node of this cluster' },
      credentialOf: (origin) => {
        const name = names.get(origin)
        return name === undefined ? undefined : utf8(name)
      },
      publicKeyOf
    }
  }
}

/** A real Ed25519 key, the same for one node id in every run. */
export function seedOf(crypto: Crypto, nodeId: string): Uint8Array {
  return new Uint8Array(crypto.sha256(utf8(`maelstrom node ${nodeId}`)))
}

function toService(value: number): ServiceValue {
  return {
    kind: 'service',
    namespace: 'values',
    name: `v${value}`,
    clusterIps: [],
    ports: [],
    headless: true,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false
  }
}

function fromValue(value: { readonly kind: string; readonly name?: string }): number | undefined {
  const digits = value.kind === 'service' ? /^v(\d+)$/.exec(value.name ?? '')?.[1] : undefined
  return digits === undefined ? undefined : Number(digits)
}

function persist(disk: Disk, effect: Persist): void {
  const known = disk.get(effect.origin)
  const records = effect.replace || known === undefined ? new Map<string, StoredRecord>() : known.records
  for (const { key, seq, value } of effect.operations) {
    if (value === undefined) records.delete(key)
    else records.set(key, { key, seq, value })
  }
  disk.set(effect.origin, { head: effect.head, credential: effect.credential ?? known?.credential, records })
}

function restored(disk: Disk): readonly StoredOrigin[] {
  return [...disk].map(([origin, { head, credential, records }]) => ({
    origin,
    head,
    credential,
    records: records.values()
  }))
}

function error(code: number, text: string): Body {
  return { type: 'error', code, text }
}

function isFields(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}
