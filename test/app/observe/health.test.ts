import { deepEqual, equal, match, ok } from 'node:assert/strict'
import { Health } from '../../../src/app/observe/health.ts'

function registry() {
  const lines: string[] = []
  let nowMs = 1000
  let changes = 0
  const write =
    (level: string) =>
    (...args: unknown[]) =>
      lines.push(`${level} ${String(args.at(-1))}`)
  const log = { info: write('info'), warn: write('warn'), error: write('error') }
  const health = new Health({
    log: log,
    now: () => nowMs++,
    onChange: () => changes++
  })
  return { health, lines, changes: () => changes }
}

const dns = {
  severity: 'error',
  message: 'DNS does not listen on 10.1.0.1:53',
  fix: 'stop the other server'
} as const

describe('health', () => {
  it('logs a fault when it appears, when its text changes and when it is cleared, and at no other time', () => {
    const { health, lines, changes } = registry()
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
    equal(changes(), 3)
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
    equal(health.worst()?.code, 'ALL_DOWN')
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
    health.set('TEXT', { ...dns, message: `\u001b[31mred\n\u202e${'x'.repeat(1_000_000)}` })
    const text = health.faults().find(({ code }) => code === 'TEXT')
    ok(text !== undefined && text.message.length <= 400)
    match(text.message, /^\[31mred x+…$/)
  })
})
