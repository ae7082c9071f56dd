// Control planes of real agents in this process, connected over loopback: each is a cluster of its own.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { Control } from '../../../src/app/control/control.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore } from '../../../src/io/store/store.ts'
import { newAgents } from '../../bench/agents.ts'
import { eventually } from '../../eventually.ts'

export interface Controls {
  readonly all: readonly Control[]
  stop(): Promise<void>
}

/** Starts control planes that listen on 127.0.0.1. */
export async function startControls(count: number): Promise<Controls> {
  const folder = mkdtempSync(join(tmpdir(), 'controls-'))
  const crypto = createCrypto()
  const stops: (() => Promise<void>)[] = []
  const all: Control[] = []
  for (const spec of newAgents(count, folder)) {
    const store = await openStore({ folder: spec.folder, now: Date.now })
    const bytes = (text: string) => new Uint8Array(Buffer.from(text, 'base64'))
    const control = new Control({
      crypto,
      store,
      log: pino({ enabled: false }),
      metrics: createMetrics(),
      nodeSeed: bytes(spec.seed),
      meshId: bytes(spec.meshId),
      cluster: spec.cluster as ClusterName,
      chain: bytes(spec.chain),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      software: 'test',
      onChange: () => undefined,
      onHandshake: () => undefined,
      onLeftOut: () => undefined
    })
    await control.start()
    all.push(control)
    stops.push(async () => {
      await control.stop()
      await store.close()
    })
  }
  return {
    all,
    async stop() {
      await Promise.all(stops.map((stop) => stop()))
      rmSync(folder, { recursive: true })
    }
  }
}

/** Makes each of `dialers` dial `to`, and waits until all are its neighbours. */
export async function dial(dialers: readonly Control[], to: Control): Promise<void> {
  const addresses = to.transport.listenAddresses()
  for (const each of dialers) each.transport.setTargets([{ origin: to.origin, addresses }])
  await eventually(() => dialers.every(({ origin }) => to.neighbours().includes(origin)))
}
