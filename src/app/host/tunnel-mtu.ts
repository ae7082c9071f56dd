// The MTU of the tunnel device: as the setting says, or as the uplink of this host carries.
import type { LinuxHost } from '../../io/host/host.ts'

// What WireGuard's own tools take where the path is not known: 1500 bytes less its headers in IPv6.
const MTU_DEFAULT = 1420

export class TunnelMtu {
  readonly #host: Pick<LinuxHost, 'detectMtu'> | undefined
  readonly #isFixed: boolean
  #bytes: number

  /** `setting`: bytes; 0: the uplink's is followed. */
  constructor(host: Pick<LinuxHost, 'detectMtu'> | undefined, setting: number) {
    this.#host = host
    this.#isFixed = setting !== 0
    this.#bytes = this.#isFixed ? setting : MTU_DEFAULT
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Reads the uplink's; returns whether the MTU has changed. What cannot be read is as it was. */
  async follow(): Promise<boolean> {
    if (this.#isFixed) return false
    const bytes = await this.#host?.detectMtu().catch(() => undefined)
    if (bytes === undefined || bytes === this.#bytes) return false
    this.#bytes = bytes
    return true
  }
}
