import assert from 'node:assert/strict'
import { BalancerRivals, RIVAL } from '../../../src/app/host/balancer-rivals.ts'
import { Health } from '../../../src/app/observe/health.ts'
import type { Rivals } from '../../../src/io/host/ports.ts'

const CALM: Rivals = { kubeProxy: false, foreign: 0, lost: 0, prefixes: ['10.102.0.0/16', 'fd02::/112'] }
const MINUTE_MS = 60_000

describe('other programs that manage IPVS on this host', () => {
  const { signal } = new AbortController()
  let found: Rivals | Error | undefined
  let looks = 0
  let nowMs = 0
  let health: Health
  let rivals: BalancerRivals

  beforeEach(() => {
    ;[found, looks, nowMs] = [CALM, 0, 0]
    const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
    health = new Health({ log, now: () => nowMs })
    const host = {
      rivals: async () => {
        looks++
        if (found instanceof Error) throw found
        return found
      }
    }
    rivals = new BalancerRivals({ host, health, nowMs: () => nowMs })
  })

  const after = async (ms: number, now: Rivals | Error | undefined) => {
    nowMs += ms
    found = now
    await rivals.look(signal)
    return health.faults()[0]
  }

  it('kube-proxy in IPVS mode is a warning with the CIDRs that it must leave alone', async () => {
    assert.equal(await after(0, CALM), undefined)
    const fault = await after(MINUTE_MS, { ...CALM, kubeProxy: true })
    assert.equal(fault?.code, RIVAL)
    assert.equal(fault.severity, 'warning')
    assert.match(fault.message, /kube-proxy runs in IPVS mode/)
    assert.match(fault.fix, /--ipvs-exclude-cidrs=10\.102\.0\.0\/16,fd02::\/112 .*nftables/)
    assert.equal(await after(MINUTE_MS, CALM), undefined)
  })

  it('virtual servers of another program are a warning that counts them', async () => {
    assert.match(
      (await after(0, { ...CALM, foreign: 12 }))?.message ?? '',
      /another program .*\(12 of them\)/
    )
  })

  it('a deleted server of ours makes it an error, and twenty quiet rounds of kube-proxy end it', async () => {
    const proxied = { ...CALM, kubeProxy: true }
    await after(0, proxied)
    const fault = await after(MINUTE_MS, { ...proxied, lost: 3 })
    assert.equal(fault?.severity, 'error')
    assert.match(fault.message, /3 of this agent's were deleted/)
    assert.match((await after(9 * MINUTE_MS, { ...proxied, lost: 5 }))?.message ?? '', /5 of this agent's/)
    assert.equal((await after(9 * MINUTE_MS, { ...proxied, lost: 5 }))?.severity, 'error')
    assert.equal(await after(MINUTE_MS, { ...proxied, lost: 5 }), undefined)
    assert.equal(await after(60 * MINUTE_MS, { ...proxied, lost: 5 }), undefined)
    // It is not forgotten: one more, and it counts from there.
    assert.match((await after(MINUTE_MS, { ...proxied, lost: 6 }))?.message ?? '', /1 of this agent's/)
  })

  it('is as it was while the kernel cannot be read, and nothing with another load balancer', async () => {
    await after(0, { ...CALM, kubeProxy: true })
    assert.equal((await after(MINUTE_MS, new Error('ipvsadm hangs')))?.code, RIVAL)
    assert.equal((await after(MINUTE_MS, undefined))?.code, RIVAL)
    await new BalancerRivals({ host: undefined, health }).look(signal)
  })

  it('looks at the kernel at most every five seconds', async () => {
    for (let second = 0; second < 10; second++) await after(1000, CALM)
    assert.equal(looks, 2)
  })
})
