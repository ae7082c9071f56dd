// The record with which this agent announces itself to the mesh: its keys, its addresses, and the pod prefixes of its
// node.
import { cidrContains } from '../../core/model/cidr.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr, TunnelKey, Value } from '../../core/model/values.ts'
import { tunnelKeyOf } from '../../core/trust/tunnel-key.ts'
import type { ProvedAgent } from '../../core/view/view.ts'
import type { Membership } from '../identity/identity.ts'
import { HandOver, type HandOverOptions } from './hand-over.ts'
import { KeyRotation, type KeyRotationOptions } from './key-rotation.ts'
import { agentValueOf, type LocalFacts } from './local-facts.ts'
import type { Settings } from '../settings/settings.ts'
import { sourceKind } from '../sources/source.ts'

/** The sources of the record, and the function that publishes it. */
interface OwnRecordOptions {
  readonly settings: Settings
  readonly crypto: Crypto
  readonly membership: Pick<Membership, 'roots'>
  /** Ed25519 seed of this agent's key, 32 bytes. */
  readonly nodeSeed: Uint8Array
  /** The parts that a rotation of the tunnel key needs (key-rotation.ts). */
  readonly store: KeyRotationOptions['store']
  readonly control: KeyRotationOptions['control'] & HandOverOptions['control']
  readonly programmed: KeyRotationOptions['programmed']
  /** The parts that a hand-over needs (hand-over.ts). */
  readonly health: HandOverOptions['health']
  readonly log: HandOverOptions['log']
  readonly tunnel: HandOverOptions['tunnel']
  readonly saysMoved: HandOverOptions['saysMoved']
  /** Version of the agent. */
  readonly software: string
  readonly facts: () => LocalFacts
  /** The pod prefixes of this cluster. */
  readonly podPrefixes: () => readonly Cidr[]
  /**
   * Publishes the record. Resolves when it is on disk and on its way, or when that has failed: the publisher reports
   * the error.
   */
  readonly put: (value: Value) => Promise<void>
}

/** The own record of one session. */
export class OwnRecord {
  /** The tunnel key in the record, and how it is changed. */
  readonly rotation: KeyRotation
  /** Whether the other gateways of the cluster are to carry the traffic of this one. */
  readonly handOver: HandOver
  readonly #options: OwnRecordOptions
  /** From Kubernetes. undefined: it has reported no prefix of this node inside the cluster's pod prefixes. */
  #nodePrefixes: readonly Cidr[] | undefined

  constructor(options: OwnRecordOptions) {
    this.#options = options
    const publish = () => this.publish()
    this.rotation = new KeyRotation({ ...options, publish })
    const reconciler = () => options.programmed().reconciler
    this.handOver = new HandOver({ ...options, reconciler, publish })
  }

  /** Publishes the record with the present facts. An unchanged record is not sent again. */
  publish(): Promise<void> {
    const { settings, facts, put, software } = this.#options
    const tunnelKeys = [this.#tunnelKey()]
    const { nodePrefixes } = this
    const { state: handOver } = this.handOver
    return put(agentValueOf(settings, facts(), { tunnelKeys, software, nodePrefixes, handOver }))
  }

  /** Publishes what has changed meanwhile. Called once a second. */
  async follow(): Promise<void> {
    await this.rotation.follow()
    await this.handOver.follow()
  }

  /**
   * The pod prefixes of this host alone, from the setting node-prefixes or from Kubernetes; undefined: none, or not known.
   */
  get nodePrefixes(): readonly Cidr[] | undefined {
    const { settings, podPrefixes } = this.#options
    const named = inside(settings['node-prefixes'], podPrefixes())
    if (settings['node-prefixes'].length > 0 || sourceKind(settings) === 'folder') return named
    return this.#nodePrefixes
  }

  #tunnelKey(): TunnelKey {
    const { crypto, membership, nodeSeed } = this.#options
    const agentKey = crypto.publicKeyOf(nodeSeed)
    return tunnelKeyOf({ crypto, meshId: membership.roots.meshId, agentKey, seed: this.rotation.seed })
  }

  /**
   * Publishes the record with the hand-over of an earlier run, and with its node prefixes until Kubernetes reports them.
   * Without those, peers would route the node's pods to another gateway in the meantime (docs/decisions/0019). `before`:
   * the record of that run.
   */
  restore(before: ProvedAgent | undefined): Promise<void> {
    this.handOver.restore(before)
    this.#nodePrefixes = before?.nodePrefixes
    return this.publish()
  }

  /**
   * `prefixes`: the pod prefixes of this node. Those outside `podPrefixes`, the cluster's pod CIDRs, are ignored:
   * peers would refuse them.
   */
  setNodePrefixes(prefixes: readonly Cidr[], podPrefixes: readonly Cidr[]): Promise<void> {
    this.#nodePrefixes = inside(prefixes, podPrefixes)
    return this.publish()
  }
}

/** The prefixes that are inside those of the cluster; undefined: none. */
function inside(prefixes: readonly Cidr[], podPrefixes: readonly Cidr[]): readonly Cidr[] | undefined {
  const found = prefixes.filter((prefix) => podPrefixes.some((cidr) => cidrContains(cidr, prefix)))
  return found.length === 0 ? undefined : found
}
