import assert from 'node:assert/strict'
import { checkDrift } from '../../../src/app/doctor/drift.ts'
import type { HostOp } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'

const sysctl = (name: string): HostOp => ({ kind: 'setSysctl', sysctl: { name, value: '1' } })

/** A session whose host differs in these operations, look by look. */
const session = (looks: readonly (readonly HostOp[])[], failed: readonly HostOp[] = []) => {
  let count = 0
  return {
    reconciler: {
      preview: async () => ({ ops: looks[Math.min(count++, looks.length - 1)] ?? [], have: EMPTY_HOST }),
      failures: {
        parts: [],
        steps: failed.map((op) => ({
          op,
          error: new Error('permission denied'),
          scope: 'operation',
          attempts: 1
        }))
      }
    }
  } as unknown as Parameters<typeof checkDrift>[0]
}

describe('the check of drift', () => {
  it('is well after one look where the host is as it should be, and says nothing without a data plane', async () => {
    assert.deepEqual(
      (await checkDrift(session([[]]))).map(({ state }) => state),
      ['ok']
    )
    assert.deepEqual(await checkDrift({ reconciler: undefined }), [])
  })

  it('is a fault for what stays, with the error of meshd where it has one, and a warning for what was mended', async () => {
    const found = await checkDrift(
      session(
        [
          [sysctl('a'), sysctl('b'), sysctl('c')],
          [sysctl('b'), sysctl('c'), sysctl('d')]
        ],
        [sysctl('c')]
      )
    )
    assert.deepEqual(
      found.map(({ state, subject, text }) => [state, subject, text]),
      [
        ['fault', 'sysctls', 'b is not set, and should be 1'],
        ['fault', 'sysctls', 'c is not set, and should be 1'],
        ['warning', 'sysctls', 'a is not set, and should be 1; meshd has mended it since']
      ]
    )
    assert.match(found[0]?.fix ?? '', /^another program of this host changes it/)
    assert.equal(found[1]?.fix, 'meshd could not set it: permission denied')
    assert.match(found[2]?.fix ?? '', /^nothing is to be done now/)
  })

  it('lists the first differences and counts the others', async () => {
    const ops = Array.from({ length: 50 }, (_, index) => sysctl(`s${index}`))
    const found = await checkDrift(session([ops]))
    assert.equal(found.length, 21)
    assert.equal(found.at(-1)?.text, 'the kernel differs in 30 more things')
  })
})
