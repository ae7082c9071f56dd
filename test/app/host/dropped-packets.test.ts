import assert from 'node:assert/strict'
import { DroppedPackets } from '../../../src/app/host/dropped-packets.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import type { Ip } from '../../../src/core/model/values.ts'
import type { Dropped, DroppedSender, DropReason } from '../../../src/io/host/ports.ts'

describe('packets beside the tunnel that the filter drops', () => {
  const { signal } = new AbortController()
  let [found, nowMs, lines]: [Dropped | undefined, number, string[]] = [undefined, 0, []]
  let health: Health
  let watch: DroppedPackets
  const metrics = createMetrics()

  beforeEach(() => {
    ;[found, nowMs, lines] = [undefined, 0, []]
    const log = {
      info: () => undefined,
      warn: (_: unknown, text: string) => lines.push(text),
      error: () => undefined
    }
    health = new Health({ log: log as never, now: () => nowMs })
    metrics.droppedPackets.reset()
    watch = new DroppedPackets({ host: { dropped: async () => found }, health, metrics, nowMs: () => nowMs })
  })

  const look = async (
    packets: Partial<Record<DropReason, number>>,
    senders: readonly DroppedSender[] = []
  ) => {
    nowMs += 10_000
    found = { packets: { service: 0, remote: 0, local: 0, ...packets }, senders }
    await watch.look(signal)
  }
  const sender = (reason: DropReason, source: string, device = 'eth0'): DroppedSender => ({
    reason,
    source: source as Ip,
    device
  })

  it('are counted, also over a change of the filter, which sets its counters back', async () => {
    await look({ remote: 3, local: 1 })
    await look({ remote: 5, local: 1 })
    await look({ remote: 2, service: 4 })
    assert.deepEqual(watch.totals, { service: 4, remote: 7, local: 1 })
    const { values } = await metrics.droppedPackets.get()
    assert.deepEqual(Object.fromEntries(values.map(({ labels, value }) => [labels.reason, value])), {
      service: 4,
      remote: 7,
      local: 1
    })
  })

  it('are a warning for each reason and device, which names one sender as long as it lasts', async () => {
    await look({ remote: 1, local: 1 }, [
      sender('remote', '10.1.0.9'),
      sender('local', '10.2.0.9', 'docker0')
    ])
    assert.deepEqual(
      health.faults().map(({ code, subject, severity }) => [code, subject, severity]),
      [
        ['SOURCE_FORGED', 'remote eth0', 'warning'],
        ['SOURCE_FORGED', 'local docker0', 'warning']
      ]
    )
    // A flood of forged addresses is no flood of log lines.
    for (let host = 10; host < 60; host++) await look({ remote: host }, [sender('remote', `10.1.0.${host}`)])
    assert.equal(lines.length, 2)
    assert.match(health.faults()[0]?.message ?? '', /on eth0 .*\(10\.1\.0\.9\)/)
    await look({ service: 1 }, [sender('service', '203.0.113.9')])
    assert.deepEqual(
      health.faults().map(({ code }) => code),
      ['SERVICE_ASKED_FROM_OUTSIDE']
    )
    await look({ service: 1 })
    assert.deepEqual(health.faults(), [])
  })

  it('are read every 5 s, and nothing changes while they cannot be read', async () => {
    await look({ remote: 1 }, [sender('remote', '10.1.0.9')])
    found = undefined
    nowMs += 10_000
    await watch.look(signal)
    assert.equal(health.faults().length, 1)
    assert.equal(watch.totals.remote, 1)
    found = { packets: { service: 0, remote: 9, local: 0 }, senders: [] }
    nowMs += 1_000
    await watch.look(signal)
    assert.equal(watch.totals.remote, 1)
    watch.stop()
    assert.deepEqual(health.faults(), [])
  })
})
