// Every test file runs in exactly one task, and what shares the machine's control groups never runs side by side.
import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { nextTask } from './admission.ts'
import { tasksOf, type Task } from './tasks.ts'

const files = globSync('test/**/*.test.ts')
const named = new Set(readFileSync('test/FAULTS.md', 'utf8').match(/test\/[a-z]*\/[\w/.-]*\.test\.ts/g))

describe('the tasks of a run', () => {
  it('have each test file exactly once', () => {
    const all = tasksOf(files, { all: true, named }).flatMap((task) => task.files)
    assert.deepEqual(all.toSorted(), files.toSorted())
  })

  it('of `make test` have every file that the table of faults names, and all files but scenarios and Kubernetes', () => {
    const some = new Set(tasksOf(files, { all: false, named }).flatMap((task) => task.files))
    for (const file of named) assert.ok(some.has(file), file)
    for (const file of files) if (!/^test\/(scenarios|lab)\//.test(file)) assert.ok(some.has(file), file)
    assert.ok(some.size < files.length)
  })

  it('begin with what takes longest', () => {
    const [first, second] = tasksOf(files, { all: true, named })
    assert.equal(first?.name, 'test/lab/guest.test.ts')
    assert.ok(second?.files.length === 1)
  })

  it('start in any order of ends without two of one class at once, at most ten, and all of them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 400, maxLength: 400 }),
        (draws) => {
          let waiting = tasksOf(files, { all: true, named })
          let running: readonly Task[] = []
          for (let step = 0; waiting.length > 0; step++) {
            const draw = draws[step % draws.length] ?? 0
            const task = nextTask(waiting, running, draw)
            if (task === undefined) {
              assert.ok(running.length > 0, 'nothing runs and nothing starts')
              running = running.filter((_, index) => index !== Math.floor(draw * running.length))
              continue
            }
            waiting = waiting.filter((each) => each !== task)
            running = [...running, task]
            assert.ok(running.length <= 10)
            assert.ok(running.filter(({ alone }) => alone !== undefined).length <= 1)
          }
        }
      ),
      { numRuns: 20 }
    )
  })

  it('start none beside others while the processors are busy', () => {
    const tasks = tasksOf(files, { all: true, named }).filter(({ alone }) => alone === undefined)
    assert.equal(nextTask(tasks.slice(6), tasks.slice(0, 6), 0.99), undefined)
    assert.equal(nextTask(tasks.slice(6), tasks.slice(0, 6), 0.5), tasks[6])
    assert.equal(nextTask(tasks.slice(1), tasks.slice(0, 1), 1), tasks[1])
  })
})
