// The MTU of the tunnel device: the value of the setting mtu, or else the MTU of this host's uplink less the 80 bytes
// that WireGuard adds.
import type { LinuxHost } from '../../io/host/host.ts'

// Used until the uplink is known, as wg-quick does: 1500 bytes less 40 (IPv6), 8 (UDP) and 32 (WireGuard).
const MTU_DEFAULT = 1420

/** The present MTU, which the desired state of the host and the probes use. */
export class TunnelMtu {
  readonly #host: Pick<LinuxHost, 'detectMtu'> | undefined
  readonly #isFixed: boolean
  #bytes: number

  /**
   * `setting`: the setting mtu in bytes, 1280 to 9000, or 0 for the MTU of the uplink. Without a data plane, 0 means
   * MTU_DEFAULT.
   */
  constructor(host: Pick<LinuxHost, 'detectMtu'> | undefined, setting: number) {
    this.#host = host
    this.#isFixed = setting !== 0
    this.#bytes = this.#isFixed ? setting : MTU_DEFAULT
  }

  /** The MTU in bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /**
   * Reads the MTU of the uplink, unless the setting fixes it. Returns whether the MTU has changed. When it cannot be
   * read, it stays as it is.
   */
  async follow(): Promise<boolean> {
    if (this.#isFixed) return false
    const bytes = await this.#host?.detectMtu().catch(() => undefined)
    if (bytes === undefined || bytes === this.#bytes) return false
    this.#bytes = bytes
    return true
  }
}
