// Control planes of real agents in this process, connected over loopback, in one mesh: each is a cluster of its own.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { ControlOptions } from '../../../src/app/control/control-options.ts'
import { Control } from '../../../src/app/control/control.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import { certifyAgent } from '../../../src/core/trust/author/join.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { type TestCluster, type TestInvite, type TestSeat, World } from '../../core/trust/set/world.ts'

export class Controls {
  readonly world = new World({ crypto: createCrypto(), now: Math.floor(Date.now() / 1000) - 60 })
  readonly seat: TestSeat = this.world.seat()
  readonly founder: TestCluster = this.world.found('c0', ['10.1.0.0/24'])
  readonly clusters: TestCluster[] = [this.founder]
  readonly all: Control[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'controls-'))
  readonly #stops: (() => Promise<void>)[] = []

  /** Starts the next cluster of the mesh: the founder first, then those that it admitted. */
  async startMember(more: Partial<ControlOptions> = {}): Promise<Control> {
    const index = this.all.length
    const cluster = (this.clusters[index] ??= this.world.join(this.seat, this.founder, index, `c${index}`, {
      pods: [`10.1.${index}.0/24`]
    }))
    const nodeSeed = this.world.crypto.random(32)
    const credential = this.world.agent(cluster, 1, nodeSeed).item
    return this.#start(`c${index}`, {
      nodeSeed,
      clusterSeed: cluster.seed,
      shows: { kind: 'member', credential },
      ...more
    })
  }

  /** Starts an agent that has redeemed this invite. */
  async startNewcomer(invite: TestInvite, more: Partial<ControlOptions> = {}): Promise<Control> {
    const { crypto, roots } = this.world
    const { item: certItem, seed: clusterSeed } = this.world.redeem(invite)
    const nodeSeed = crypto.random(32)
    const certify = (clusterItem: Uint8Array) =>
      certifyAgent(
        { crypto, roots },
        { clusterItem, clusterSeed, agentSeed: nodeSeed, node: 'new', roles: ['gateway'], generation: 1 }
      ).bytes
    return this.#start(invite.name, {
      nodeSeed,
      clusterSeed,
      shows: { kind: 'newcomer', certItem },
      onAdmitted: async (clusterItem) => certify(clusterItem),
      ...more
    })
  }

  async #start(
    name: string,
    options: Pick<ControlOptions, 'nodeSeed' | 'clusterSeed' | 'shows'> & Partial<ControlOptions>
  ): Promise<Control> {
    const store = await openStore({ folder: join(this.#folder, `${this.all.length}`), now: Date.now })
    const control = new Control({
      crypto: createCrypto(),
      store,
      log: pino({ enabled: false }),
      metrics: createMetrics(),
      roots: this.world.roots,
      cluster: name as ClusterName,
      listen: ['/ip4/127.0.0.1/tcp/0'],
      software: 'test',
      onChange: () => undefined,
      onHandshake: () => undefined,
      onLeftOut: () => undefined,
      underlayFault: async () => undefined,
      onAdmitted: async () => {
        throw new Error('a member is not admitted')
      },
      ...options
    })
    await control.start()
    this.all.push(control)
    this.#stops.push(async () => {
      await control.stop()
      await store.close()
    })
    return control
  }

  async stop(): Promise<void> {
    await Promise.all(this.#stops.map((stop) => stop()))
    rmSync(this.#folder, { recursive: true })
  }
}

/** Starts control planes of members that listen on 127.0.0.1. */
export async function startControls(count: number): Promise<Controls> {
  const controls = new Controls()
  for (let index = 0; index < count; index++) await controls.startMember()
  return controls
}

/** Makes each of `dialers` dial `to`. */
export function call(dialers: readonly Control[], to: Control): void {
  const addresses = to.transport.listenAddresses()
  for (const each of dialers) each.transport.setTargets([{ origin: to.origin, addresses }])
}

/** The same, and waits until all are its neighbours. */
export async function dial(dialers: readonly Control[], to: Control): Promise<void> {
  call(dialers, to)
  await eventually(() => dialers.every(({ origin }) => to.neighbours().includes(origin)))
}
