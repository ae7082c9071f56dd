// The record in which this agent tells the mesh of itself: its keys, its addresses, and the pod prefixes of its node.
import { cidrContains } from '../../core/model/cidr.ts'
import type { Cidr, Value, WireguardKey } from '../../core/model/values.ts'
import { agentValueOf, type LocalFacts } from './local-facts.ts'
import type { Settings } from '../settings/settings.ts'

export interface OwnRecordOptions {
  readonly settings: Settings
  readonly wireguardKey: WireguardKey
  readonly software: string
  readonly facts: () => LocalFacts
  readonly put: (value: Value) => Promise<void>
}

export class OwnRecord {
  readonly #options: OwnRecordOptions
  /** undefined: Kubernetes has told none inside the cluster's pod prefixes. */
  #nodePrefixes: readonly Cidr[] | undefined

  constructor(options: OwnRecordOptions) {
    this.#options = options
  }

  publish(): Promise<void> {
    const { settings, facts, put, wireguardKey, software } = this.#options
    return put(agentValueOf(settings, facts(), { wireguardKey, software, nodePrefixes: this.#nodePrefixes }))
  }

  /** Publishes what an earlier run has published, until Kubernetes tells: else peers would route around this node meanwhile. */
  restore(nodePrefixes: readonly Cidr[] | undefined): Promise<void> {
    this.#nodePrefixes = nodePrefixes
    return this.publish()
  }

  /** `prefixes`: of this node's pods. Those outside `podPrefixes`, the cluster's pod CIDRs, are ignored. */
  setNodePrefixes(prefixes: readonly Cidr[], podPrefixes: readonly Cidr[]): Promise<void> {
    const inside = prefixes.filter((prefix) => podPrefixes.some((cidr) => cidrContains(cidr, prefix)))
    this.#nodePrefixes = inside.length === 0 ? undefined : inside
    return this.publish()
  }
}
