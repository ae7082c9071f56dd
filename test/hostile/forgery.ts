// Frames of replication, signed by any key over any content: what a hostile member can say.
import { randomBytes } from 'node:crypto'
import type { Ip, Origin, Value } from '../../src/core/model/values.ts'
import { originOf } from '../../src/core/model/identity.ts'
import { deltaFrames } from '../../src/core/replication/delta-frames.ts'
import { signHead, toSignedHead } from '../../src/core/replication/head.ts'
import type { StoredRecord } from '../../src/core/replication/record.ts'
import { StateHash } from '../../src/core/replication/state-hash.ts'
import { encodeFrame, encodeMessage, wire } from '../../src/core/wire/messages.ts'
import { encodeValue } from '../../src/core/wire/value-codec.ts'
import { crypto } from './attacker.ts'

/** A key that signs, in a mesh. */
interface Signer {
  readonly seed: Uint8Array
  readonly roots: { readonly meshId: Uint8Array }
}

/** The whole state of a signer as the frames of one push: each key with the bytes of its value. */
export function state(
  { seed, roots: { meshId } }: Signer,
  values: Iterable<readonly [key: string, value: Uint8Array]>,
  options: {
    readonly epoch?: number
    readonly credential?: Uint8Array
    /** The origin that the head names; its signature is of `seed` all the same. */
    readonly of?: Origin
    /** Random bytes in place of the signature, or of the hash of the state. */
    readonly forged?: 'signature' | 'hash'
  } = {}
): readonly Uint8Array[] {
  const hash = new StateHash(crypto)
  const records: StoredRecord[] = []
  for (const [key, value] of values) records.push({ key, value, seq: records.length + 1 })
  for (const record of records) hash.set(record)
  const head = signHead(
    crypto,
    { seed, meshId },
    {
      origin: options.of ?? originOf(crypto.publicKeyOf(seed)),
      epoch: options.epoch ?? Date.now(),
      seq: records.length,
      prevSeq: 0,
      stateHash: options.forged === 'hash' ? randomBytes(32) : hash.root()
    }
  )
  return deltaFrames({
    head: options.forged === 'signature' ? { ...head, signature: randomBytes(64) } : head,
    fromSeq: 0,
    operations: records,
    credential: options.credential,
    partBytes: 60 * 1024
  })
}

/** The same for values as agents have them. */
export function values(content: Readonly<Record<string, Value>>): readonly (readonly [string, Uint8Array])[] {
  return Object.entries(content).map(([key, value]) => [key, encodeValue(value)])
}

/** A vote that an agent is silent. */
export function vote({ seed, roots: { meshId } }: Signer, origin: Origin, incarnation: number): Uint8Array {
  const by = originOf(crypto.publicKeyOf(seed))
  const body = encodeMessage(wire.SuspicionBody, { origin, by, incarnation })
  const signature = crypto.sign(seed, SUSPICION_TAG, meshId, body)
  return encodeFrame({ suspicion: { body, signature } })
}

/** A claim to hold a state of an origin, which the sender never delivers. */
export function claim(origins: readonly Origin[]): Uint8Array {
  return encodeFrame({
    heads: {
      heads: origins.map((origin) => ({ origin, epoch: 2 ** 45, seq: 2 ** 40, check: 1 })),
      all: false
    }
  })
}

/** Two heads of the signer for one position: the proof that its key is used twice, with a signature that is not valid. */
export function falseEquivocation(signer: Signer, victim: Origin): Uint8Array {
  const { meshId } = signer.roots
  const sign = () =>
    toSignedHead(
      signHead(
        crypto,
        { seed: signer.seed, meshId },
        { origin: victim, epoch: 1, seq: 1, prevSeq: 0, stateHash: randomBytes(32) }
      )
    )
  return encodeFrame({ equivocation: { first: sign(), second: sign() } })
}

/** Service `shop/web` of a cluster, with one address. */
export function service(address: string): Value {
  return {
    kind: 'service',
    namespace: 'shop',
    name: 'web',
    clusterIps: [address as Ip],
    ports: [{ name: 'http', protocol: 'TCP', port: 80, appProtocol: '' }],
    headless: false,
    externalName: '',
    affinitySeconds: 0,
    publishNotReady: false
  }
}

const SUSPICION_TAG = new TextEncoder().encode('rhizome/suspicion/1\0')
