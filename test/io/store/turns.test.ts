// What an agent that has stopped must not do: write into a folder that the next agent has opened.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { setImmediate as turn } from 'node:timers/promises'
import { Turns } from '../../../src/io/store/turns.ts'

type Step = 'write' | 'fail' | 'end'

describe('the turns of the small files', () => {
  it('run one at a time in their order, and none begins after the end', async () => {
    const steps = fc.array(fc.constantFrom<Step>('write', 'write', 'fail', 'end'), { maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(steps, async (wanted) => {
        const turns = new Turns('/var/lib/rhizome')
        const log: string[] = []
        let running = 0
        let isEnded = false
        const results: Promise<unknown>[] = []
        for (const [index, step] of wanted.entries()) {
          if (step === 'end') {
            isEnded = true
            results.push(turns.end().then(() => assert.equal(running, 0)))
            continue
          }
          const isRefused = isEnded
          const result = turns.run(async () => {
            assert.equal(isRefused, false, 'it began after the end')
            assert.equal(++running, 1)
            await turn()
            running--
            log.push(`${step} ${index}`)
            if (step === 'fail') throw new Error('no disk')
          })
          results.push(
            isRefused
              ? assert.rejects(result, { code: 'STORE_CLOSED' })
              : step === 'fail'
                ? assert.rejects(result, /no disk/)
                : result
          )
        }
        await Promise.all(results)
        const end = wanted.indexOf('end')
        const begun = wanted.flatMap((step, index) =>
          step !== 'end' && (end < 0 || index < end) ? [`${step} ${index}`] : []
        )
        assert.deepEqual(log, begun)
      })
    )
  })
})
