import assert from 'node:assert/strict'
import fc from 'fast-check'
import { examine, type Finding } from '../../../src/app/doctor/finding.ts'

const STATES = ['ok', 'warning', 'fault'] as const
const NAMES = [
  'data-plane',
  'drift',
  'dns',
  'upstream-dns',
  'control',
  'tunnel',
  'clock',
  'disk',
  'fault'
] as const

describe('an examination', () => {
  it('has all findings of all checks, the worst first, whatever fails', async () => {
    const result = fc.oneof(
      fc.constant('throws' as const),
      fc.array(fc.constantFrom(...STATES), { maxLength: 4 })
    )
    await fc.assert(
      fc.asyncProperty(fc.tuple(...NAMES.map(() => result)), async (results) => {
        const checks = Object.fromEntries(
          NAMES.map((check, index) => [
            check,
            async (): Promise<readonly Finding[]> => {
              const found = results[index] ?? []
              if (found === 'throws') throw new Error('the tool hangs')
              return found.map((state) => ({ check, state, subject: '', text: state }))
            }
          ])
        )
        const findings = await examine(checks)
        const wanted = results.reduce((sum, found) => sum + (found === 'throws' ? 1 : found.length), 0)
        assert.equal(findings.length, wanted)
        const isDown = findings.some(
          ({ check, state }) => state === 'fault' && /^(tunnel|control)$/.test(check)
        )
        // Where a tunnel is down, drift that was mended is among the faults.
        const ranks = findings.map(({ check, state }) =>
          check === 'drift' && isDown && state === 'warning' ? 2 : STATES.indexOf(state)
        )
        assert.deepEqual(
          ranks,
          ranks.toSorted((a, b) => b - a)
        )
        const failed = findings.filter(({ text }) => text.includes('the tool hangs'))
        assert.equal(failed.length, results.filter((found) => found === 'throws').length)
        assert.ok(failed.every(({ state }) => state === 'warning'))
      })
    )
  })

  it('has causes before what follows from them, whatever their order', async () => {
    const fault = (code: string): Finding => ({
      check: 'fault',
      code,
      state: 'fault',
      subject: '',
      text: code
    })
    const tunnel: Finding = { check: 'tunnel', state: 'fault', subject: '', text: 'tunnel' }
    const drift: Finding = { check: 'drift', state: 'warning', subject: '', text: 'drift' }
    const wanted = [
      'ROUTED_ELSEWHERE',
      'drift',
      'CLUSTER_DOWN',
      'GATEWAY_DOWN',
      'tunnel',
      'ALL_CLUSTERS_DOWN'
    ]
    const faults = ['ALL_CLUSTERS_DOWN', 'GATEWAY_DOWN', 'CLUSTER_DOWN', 'ROUTED_ELSEWHERE'].map(fault)
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(faults, { minLength: 4 }), async (order) => {
        const found = await examine({
          fault: async () => order,
          drift: async () => [drift],
          tunnel: async () => [tunnel]
        })
        assert.deepEqual(
          found.map(({ text }) => text),
          wanted
        )
      })
    )
    const down: Finding = { check: 'drift', state: 'fault', subject: 'tunnel', text: 'device' }
    const route: Finding = { ...fault('HOST_STEP_FAILED'), subject: 'routes' }
    const steps = await examine({ fault: async () => [route], drift: async () => [down] })
    assert.deepEqual(
      steps.map(({ text }) => text),
      ['device', 'HOST_STEP_FAILED']
    )
    const calm = await examine({ drift: async () => [drift], fault: async () => [fault('DISK')] })
    assert.deepEqual(
      calm.map(({ text }) => text),
      ['DISK', 'drift']
    )
  })
})
