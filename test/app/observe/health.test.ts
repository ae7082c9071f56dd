import { deepEqual, equal, match, ok } from 'node:assert/strict'
import fc from 'fast-check'
import { Health } from '../../../src/app/observe/health.ts'

function registry() {
  const lines: string[] = []
  let nowMs = 1000
  const write =
    (level: string) =>
    (...args: unknown[]) =>
      lines.push(`${level} ${String(args.at(-1))}`)
  const log = { info: write('info'), warn: write('warn'), error: write('error') }
  const health = new Health({
    log: log,
    now: () => nowMs++
  })
  return { health, lines }
}

const dns = {
  severity: 'error',
  message: 'DNS does not listen on 10.1.0.1:53',
  fix: 'stop the other server'
} as const

describe('health', () => {
  it('logs a fault when it appears, when its text changes and when it is cleared, and at no other time', () => {
    const { health, lines } = registry()
    health.set('DNS_LISTEN', dns)
    health.set('DNS_LISTEN', dns)
    health.set('DNS_LISTEN', { ...dns, message: 'DNS does not listen on 10.1.0.2:53' })
    health.clear('DNS_LISTEN')
    health.clear('DNS_LISTEN')
    deepEqual(lines, [
      'error DNS does not listen on 10.1.0.1:53',
      'error DNS does not listen on 10.1.0.2:53',
      'info recovered: DNS does not listen on 10.1.0.2:53'
    ])
  })

  it('gives the worst first, and of equals the oldest', () => {
    const { health } = registry()
    health.set('CLOCK', { ...dns, severity: 'warning' })
    health.set('TUNNEL_DOWN', { ...dns, subject: 'east' })
    health.set('TUNNEL_DOWN', { ...dns, subject: 'west' })
    health.set('ALL_DOWN', { ...dns, severity: 'critical' })
    health.set('TUNNEL_DOWN', { ...dns, subject: 'east', message: 'changed' })
    deepEqual(
      health.faults().map(({ code, subject }) => `${code} ${subject}`),
      ['ALL_DOWN ', 'TUNNEL_DOWN east', 'TUNNEL_DOWN west', 'CLOCK ']
    )
    equal(health.faults()[0]?.code, 'ALL_DOWN')
  })

  it('clears what is not in the whole list any more', () => {
    const { health } = registry()
    health.replace('LIMIT', [
      { ...dns, subject: 'a' },
      { ...dns, subject: 'b' }
    ])
    health.replace('LIMIT', [{ ...dns, subject: 'b' }])
    deepEqual(
      health.faults().map(({ subject }) => subject),
      ['b']
    )
    ok(!health.has('LIMIT', 'a'))
  })

  it('is bounded in faults per code and in characters, whatever a peer sends', () => {
    const { health } = registry()
    const many = Array.from({ length: 500 }, (_, n) => ({ ...dns, subject: `cluster-${n}` }))
    health.replace('TUNNEL_DOWN', many)
    for (const one of many) health.set('REFUSED', one)
    equal(health.faults().length, 40)
    equal(health.excess().get('TUNNEL_DOWN'), 480)
    equal(health.excess().get('REFUSED'), 480)
    health.set('TEXT', { ...dns, message: `\u001b[31mred\n\u202e${'x'.repeat(1_000_000)}` })
    const text = health.faults().find(({ code }) => code === 'TEXT')
    ok(text !== undefined && text.message.length <= 400)
    match(text.message, /^\[31mred x+…$/)
  })

  it('counts the faults that are set beyond the bound, and lists them when a listed one is cleared', () => {
    const { health, lines } = registry()
    for (let n = 0; n < 22; n++) health.set('NAME', { ...dns, subject: `n${n}`, message: `n${n} is wrong` })
    equal(health.excess().get('NAME'), 2)
    ok(health.has('NAME', 'n21'))
    equal(lines.length, 20, 'the log has the listed ones')
    health.clear('NAME', 'n20')
    equal(health.excess().get('NAME'), 1)
    ok(!health.has('NAME', 'n20'))
    health.clear('NAME', 'n3')
    equal(health.excess().get('NAME'), undefined)
    deepEqual(lines.slice(20), ['info recovered: n3 is wrong', 'error n21 is wrong'])
    equal(health.faults().length, 20)
    equal(health.faults().at(-1)?.sinceMs, 1021, 'since it was set, not since it is listed')
    health.set('NAME', { ...dns, subject: 'n99' })
    health.replace('NAME', [])
    deepEqual([health.faults(), [...health.excess()]], [[], []])
  })

  it('has every fault that is set and not cleared in its list or its count, whatever the order', () => {
    const step = fc.record({ isSet: fc.boolean(), subject: fc.integer({ min: 0, max: 40 }).map(String) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const { health } = registry()
        const wrong = new Set<string>()
        for (const { isSet, subject } of steps) {
          if (isSet) health.set('NAME', { ...dns, subject })
          else health.clear('NAME', subject)
          if (isSet) wrong.add(subject)
          else wrong.delete(subject)
          const listed = health.faults()
          equal(listed.length, Math.min(20, wrong.size))
          equal(listed.length + (health.excess().get('NAME') ?? 0), wrong.size)
          ok([...wrong].every((each) => health.has('NAME', each)))
        }
      })
    )
  })
})
