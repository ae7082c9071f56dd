// The tunnel keys of an agent, and the proof that it holds them. A tunnel key is an Ed25519 key; the WireGuard key is
// its Montgomery form (RFC 7748), so one seed gives both, and a signature proves that the agent can use the WireGuard key.
// Without a proof, a member could announce the WireGuard key of another cluster and take its tunnel away.
// Invariants
//   1. A WireGuard key comes into a view only from `prove`, so a claim without proof reaches no peer of WireGuard.
//   2. The proof names the mesh and the agent, so it is of no use to another agent, or in another mesh.
//   3. Two agents with one WireGuard key hold one seed: A and −A have one WireGuard key, but who can sign for one of them
//      has the seed of the other.
import type { Crypto } from '../model/crypto.ts'
import { publicKeyOf } from '../model/identity.ts'
import type { Origin, TunnelKey, Value, WireguardKey } from '../model/values.ts'
import { wireguardKeyOf } from './set/strict-ed25519.ts'

const TAG = new TextEncoder().encode('rhizome/tunnel/2\0')
// Bound of the verdicts that are kept. A mesh has at most 4,096 origins with two keys each.
const VERDICTS_MAX = 16_384

/** What the tunnel keys of a record are worth. `reason` is a clause for people. */
type TunnelKeysVerdict =
  | { readonly kind: 'proved'; readonly wireguardKeys: readonly [WireguardKey, ...WireguardKey[]] }
  | { readonly kind: 'refused'; readonly reason: string }

/** Returns the tunnel key of a seed with its proof, as the agent publishes it. `agentKey`: raw Ed25519 key of the agent. */
export function tunnelKeyOf(options: {
  readonly crypto: Crypto
  readonly meshId: Uint8Array
  readonly agentKey: Uint8Array
  /** Ed25519 seed of the tunnel key, 32 bytes. A secret. */
  readonly seed: Uint8Array
}): TunnelKey {
  const { crypto, meshId, agentKey, seed } = options
  const edKey = crypto.publicKeyOf(seed)
  return { edKey: toBase64(edKey), proof: toBase64(crypto.sign(seed, TAG, meshId, agentKey, edKey)) }
}

/** Returns the WireGuard key of a raw Ed25519 key. Throws a RangeError for a key of small order. */
export function wireguardKeyOfEd25519(edKey: Uint8Array): WireguardKey {
  return toBase64(wireguardKeyOf(edKey)) as WireguardKey
}

/** Checks tunnel keys, each value once: a signature and the map to the WireGuard key take a third of a millisecond. */
export class TunnelKeys {
  readonly #crypto: Crypto
  readonly #meshId: Uint8Array
  readonly #verdicts = new Map<string, WireguardKey | undefined>()

  constructor(options: { readonly crypto: Crypto; readonly meshId: Uint8Array }) {
    this.#crypto = options.crypto
    this.#meshId = options.meshId
  }

  /** Returns the WireGuard keys that an agent has proved, in the order of its record; refused when one is not proved. */
  prove(origin: Origin, tunnelKeys: readonly TunnelKey[]): TunnelKeysVerdict {
    const keys = tunnelKeys.map((tunnelKey) => this.#one(origin, tunnelKey))
    const [first, ...others] = keys.filter((key) => key !== undefined)
    if (first !== undefined && others.length + 1 === keys.length)
      return { kind: 'proved', wireguardKeys: [first, ...others] }
    const reason = 'tunnelKeys has a key of which the agent has not proved that it holds the seed'
    return { kind: 'refused', reason }
  }

  /** Returns why other agents would refuse the tunnel keys of a value; undefined when they would not. */
  refusalOf(origin: Origin, value: Value): string | undefined {
    if (value.kind !== 'agent') return undefined
    const verdict = this.prove(origin, value.tunnelKeys)
    return verdict.kind === 'refused' ? verdict.reason : undefined
  }

  #one(origin: Origin, { edKey, proof }: TunnelKey): WireguardKey | undefined {
    const name = `${origin} ${edKey} ${proof}`
    if (this.#verdicts.has(name)) return this.#verdicts.get(name)
    const key = this.#verify(origin, { edKey: fromBase64(edKey), proof: fromBase64(proof) })
    if (this.#verdicts.size >= VERDICTS_MAX) this.#verdicts.clear()
    this.#verdicts.set(name, key)
    return key
  }

  #verify(
    origin: Origin,
    { edKey, proof }: { readonly edKey: Uint8Array; readonly proof: Uint8Array }
  ): WireguardKey | undefined {
    const agentKey = publicKeyOf(origin)
    // `verify` refuses keys of small order, for which the map to a WireGuard key is not defined.
    if (agentKey === undefined || !this.#crypto.verify(edKey, proof, TAG, this.#meshId, agentKey, edKey))
      return undefined
    return wireguardKeyOfEd25519(edKey)
  }
}

function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
}
