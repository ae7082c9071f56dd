import assert from 'node:assert/strict'
import { parseIp } from '../../../src/core/model/cidr.ts'
import { drain, drainKey, NO_DRAINS, type Drains } from '../../../src/core/host/drain.ts'
import type { HostState, VirtualServer } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST, normalizeHost } from '../../../src/core/host/normalize.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import { plan } from '../../../src/core/host/plan.ts'

const ip = (text: string) => parseIp(text) ?? assert.fail(text)
const server = (hosts: readonly number[], more: Partial<VirtualServer> = {}): VirtualServer => ({
  vip: ip('10.102.0.10'),
  protocol: 'TCP',
  port: 80,
  scheduler: 'rr',
  affinitySeconds: 0,
  realServers: hosts.map((host) => ({ ip: ip(`10.2.0.${host}`), port: 8080, weight: 1 })),
  ...more
})
const host = (...virtualServers: VirtualServer[]): HostState =>
  normalizeHost({ ...EMPTY_HOST, virtualServers })
const shown = (state: HostState) =>
  state.virtualServers.map((each) => each.realServers.map((real) => `${real.ip}*${real.weight}`).join(' '))

describe('draining', () => {
  it('gives a removed real server no new flow, then takes it away at its deadline', () => {
    const want = host(server([11]))
    let have = host(server([11, 12]))
    let drains: Drains = NO_DRAINS
    const timeline: string[] = []
    for (const nowMs of [0, 10_000, 29_999, 30_000, 40_000]) {
      const result = drain({ want, have, drains, nowMs, drainMs: 30_000 })
      have = applyOps(have, plan(result.want, have))
      drains = result.drains
      timeline.push(`${nowMs}: ${shown(have).join()} next ${result.nextDeadlineMs}`)
    }
    assert.deepEqual(timeline, [
      '0: 10.2.0.11*1 10.2.0.12*0 next 30000',
      '10000: 10.2.0.11*1 10.2.0.12*0 next 30000',
      '29999: 10.2.0.11*1 10.2.0.12*0 next 30000',
      '30000: 10.2.0.11*1 next undefined',
      '40000: 10.2.0.11*1 next undefined'
    ])
  })

  it('ends at once when no connection is left', () => {
    const [want, have] = [host(server([11])), host(server([11, 12]))]
    const idle = new Set([drainKey(server([]), { ip: ip('10.2.0.12'), port: 8080 })])
    const result = drain({ want, have, drains: NO_DRAINS, nowMs: 0, drainMs: 30_000, idle })
    assert.deepEqual(result, { want, drains: NO_DRAINS, nextDeadlineMs: undefined })
  })

  it('is forgotten when the real server comes back', () => {
    const have = host(server([11, 12]))
    const first = drain({ want: host(server([11])), have, drains: NO_DRAINS, nowMs: 0, drainMs: 30_000 })
    const back = drain({ want: have, have: first.want, drains: first.drains, nowMs: 5, drainMs: 30_000 })
    assert.deepEqual(shown(back.want), ['10.2.0.11*1 10.2.0.12*1'])
    assert.equal(back.drains.size, 0)
  })

  const atOnce: readonly { readonly title: string; readonly want: HostState; readonly have: HostState }[] = [
    { title: 'a virtual server that vanished', want: host(), have: host(server([11, 12])) },
    { title: 'a withdrawn cluster', want: host(server([])), have: host(server([11, 12])) },
    {
      title: 'a UDP real server',
      want: host(server([11], { protocol: 'UDP' })),
      have: host(server([11, 12], { protocol: 'UDP' }))
    }
  ]
  for (const { title, want, have } of atOnce) {
    it(`does not apply to ${title}`, () => {
      const result = drain({ want, have, drains: NO_DRAINS, nowMs: 0, drainMs: 30_000 })
      assert.deepEqual(result, { want, drains: NO_DRAINS, nextDeadlineMs: undefined })
    })
  }

  it('starts anew, for one more period at most, when the agent restarted and forgot', () => {
    const want = host(server([11]))
    const have = drain({
      want,
      have: host(server([11, 12])),
      drains: NO_DRAINS,
      nowMs: 0,
      drainMs: 30_000
    }).want
    const after = drain({ want, have, drains: NO_DRAINS, nowMs: 20_000, drainMs: 30_000 })
    assert.equal(after.nextDeadlineMs, 50_000)
  })
})
