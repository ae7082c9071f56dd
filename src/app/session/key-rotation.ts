// Gives this agent a new tunnel key (`meshctl key rotate`). WireGuard has one private key for its device, so the new key
// takes the place of the old one, and each tunnel needs one handshake. What is sent meanwhile waits in WireGuard's
// queue: 128 packets for each peer (MAX_STAGED_PACKETS of the kernel, QueueStagedSize of wireguard-go).
// Invariants
//   1. The new seed is on disk before the device gets its key, so a crash at any point leaves one key, which the next
//      start sets and publishes.
//   2. The key is published only when the device has it. The other hosts make their peer of it then, and their handshake
//      is answered. Packets of the old key that are on their way arrive before: a peer of the old key is removed by
//      the record, and the record leaves after the last of them.
import { setTimeout as pause } from 'node:timers/promises'
import type { Crypto } from '../../core/model/crypto.ts'
import type { WireguardKey } from '../../core/model/values.ts'
import { wireguardKeyOfEd25519 } from '../../core/trust/tunnel-key.ts'
import type { Store } from '../../io/store/store.ts'
import type { Control } from '../control/control.ts'
import type { ProgrammedHost } from '../host/programmed-host.ts'
import { base64, bytes } from '../identity/encoding.ts'
import { AppError } from '../observe/errors.ts'

// How often and how long `rotate` looks whether the device has the key. A pass over the host takes some 100 ms, and
// seconds on a busy machine.
const LOOK_MS = 5
const DEVICE_DEADLINE_MS = 20_000

/** The parts of the session that a rotation uses. */
export interface KeyRotationOptions {
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly crypto: Crypto
  readonly control: Pick<Control, 'view' | 'neighbours'>
  /** Returns the host, which is made after the rotation. */
  readonly programmed: () => Pick<ProgrammedHost, 'mark' | 'reconciler'>
  /** Publishes the record of this agent, with the key of `seed`. */
  readonly publish: () => Promise<void>
  /** How long `rotate` waits for the device, milliseconds. Default: DEVICE_DEADLINE_MS. */
  readonly deadlineMs?: number
}

/** The result of a rotation. `isPending`: the device has refused the key so far, and the old one stays published. */
interface Rotation {
  readonly before: WireguardKey
  readonly wireguardKey: WireguardKey
  readonly isPending: boolean
}

/** The tunnel key of one session, as it is published. */
export class KeyRotation {
  readonly #options: KeyRotationOptions
  /** The published seed in base64. It differs from that of the identity from the saving to the publishing. */
  #published: string

  constructor(options: KeyRotationOptions) {
    this.#options = options
    // After a crash between saving and publishing, the first pass of the new session sets the device.
    this.#published = this.#saved()
  }

  /** The seed of the published tunnel key, 32 bytes. A secret. */
  get seed(): Uint8Array {
    return bytes(this.#published)
  }

  /**
   * Makes a new key and returns when it is published, or is pending after DEVICE_DEADLINE_MS. Errors: AppError
   * KEY_CHANGING while another rotation is pending, NO_MEMBER when no member would hear of the key; StoreError, after
   * which nothing has changed.
   */
  async rotate(): Promise<Rotation> {
    const { store, crypto, programmed } = this.#options
    const identity = store.identity()
    if (identity === undefined || this.#isPending())
      throw new AppError(
        'KEY_CHANGING',
        'the tunnel key is being changed already',
        'wait a moment; `meshctl status` shows what keeps WireGuard from taking the new key'
      )
    if (this.#isCutOff())
      throw new AppError(
        'NO_MEMBER',
        'no member is connected, so none would hear of the new key, and all tunnels of this host would end',
        'wait until `meshctl peers` shows a control connection, then run the command again'
      )
    const before = this.#keyOf(this.#published)
    const tunnelSeed = base64(crypto.random(32))
    await store.changeIdentity((now) => ({ ...now, tunnelSeed }))
    programmed().mark()
    const deadline = AbortSignal.timeout(this.#options.deadlineMs ?? DEVICE_DEADLINE_MS)
    while (!this.#isSet() && !deadline.aborted) await pause(LOOK_MS)
    await this.follow()
    return { before, wireguardKey: this.#keyOf(this.#saved()), isPending: this.#isPending() }
  }

  /** Publishes a key that the device has got meanwhile. Called once a second; usually there is nothing to do. */
  async follow(): Promise<void> {
    if (!this.#isPending() || !this.#isSet()) return
    this.#published = this.#saved()
    await this.#options.publish()
  }

  #isPending(): boolean {
    return this.#saved() !== this.#published
  }

  /** Whether the device has the key of the identity. A machine without a data plane has no device to wait for. */
  #isSet(): boolean {
    const { reconciler } = this.#options.programmed()
    return reconciler === undefined || reconciler.have.tunnel?.publicKey === this.#keyOf(this.#saved())
  }

  /** True when other clusters are known and no member is connected: none would hear of a new key. */
  #isCutOff(): boolean {
    const { control } = this.#options
    return control.view().clusters.size > 1 && control.neighbours().length === 0
  }

  /** The seed on disk. While this agent leaves, the identity is gone, and the published seed stays. */
  #saved(): string {
    return this.#options.store.identity()?.tunnelSeed ?? this.#published
  }

  #keyOf(seed: string): WireguardKey {
    return wireguardKeyOfEd25519(this.#options.crypto.publicKeyOf(bytes(seed)))
  }
}
