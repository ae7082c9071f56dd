// Runs the test files side by side, each in a mocha of its own: node test/runner/main.ts FOLDER [all | FILE…]. FOLDER is for what one run keeps.
// Prints what each task says when it ends, each failure at once, and at the end the files that took longest and all failures.
// Exit code: 0 = every file passed, beside the others or alone.
import { spawn, type ChildProcess } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { nextTask, processorMeter } from './admission.ts'
import { readOutput, summary, type TaskResult } from './results.ts'
import { tasksOf, type Task } from './tasks.ts'

const LOOK_MS = 1500
const STILL_RUNNING_MS = 60_000
// Where more files failed, the machine is not the cause.
const AGAIN_MOST = 8

const [folder = '/tmp', ...which] = process.argv.slice(2)
const began = performance.now()
const children = new Set<ChildProcess>()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    for (const child of children) child.kill('SIGTERM')
    process.exit(130)
  })

const results = await runAll()
const failed = results.filter(({ failedFiles, exitCode }) => exitCode !== 0 || failedFiles.length > 0)
// A file that failed beside others is run once more, alone, so that a slow machine fails no test: what fails alone, too, fails the run, and what
// passes alone is named at the end, because its deadline or its order of events is to be mended.
const files = failed.flatMap((each) => each.failedFiles)
const isWorthIt = files.length <= AGAIN_MOST && failed.every((each) => each.failedFiles.length > 0)
const again: TaskResult[] = []
for (const file of isWorthIt ? files : []) {
  say(`${file} failed beside other files; once more, alone:`)
  again.push(await run({ name: file, files: [file], niceness: 0, alone: undefined }, `again-${again.length}`))
}
for (const line of summary(results, again)) console.log(line)
say(`all ended after ${seconds()} s`)
process.exitCode = failed.length === 0 || (isWorthIt && again.every(({ exitCode }) => exitCode === 0)) ? 0 : 1

async function runAll(): Promise<readonly TaskResult[]> {
  const faults = readFileSync('test/FAULTS.md', 'utf8')
  const named = new Set(faults.match(/test\/[a-z]*\/[\w/.-]*\.test\.ts/g))
  const isAll = which.length > 0
  const files = globSync(isAll && which[0] !== 'all' ? which : 'test/**/*.test.ts')
  let waiting = tasksOf(files, { all: isAll, named })
  const all = waiting.length
  const running = new Map<Task, Promise<void>>()
  const ended: TaskResult[] = []
  const busy = processorMeter()
  say(`${all} tasks; the next one starts while the processors have idle time`)
  for (let said = performance.now(), count = 0; waiting.length > 0 || running.size > 0;) {
    const task = nextTask(waiting, [...running.keys()], busy())
    if (task !== undefined) {
      waiting = waiting.filter((each) => each !== task)
      const ends = run(task, String(count++)).then((result) => {
        running.delete(task)
        ended.push(result)
        said = performance.now()
        say(`${ended.length} of ${all}, after ${seconds()} s: ${task.name}, ${result.line}`)
        if (result.text !== '') console.log(result.text)
      })
      running.set(task, ends)
    }
    if (performance.now() - said > STILL_RUNNING_MS) {
      said = performance.now()
      say(`after ${seconds()} s, running: ${[...running.keys()].map(({ name }) => name).join(' ')}`)
    }
    await Promise.race([pause(LOOK_MS), ...(task === undefined ? running.values() : [])])
  }
  return ended
}

function run(task: Task, id: string): Promise<TaskResult> {
  const startedMs = performance.now()
  const list = join(folder, `failed-${id}`)
  const mocha = ['mocha', '--exit', '--config', 'test/mocharc.json', ...task.files]
  const child = spawn('test/isolated', [String(task.niceness), ...mocha], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, RHIZOME_FAILED_FILES: list }
  })
  children.add(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
      for (const [, failure] of text.matchAll(/^ {2}failed: (.+)/gm))
        say(`after ${seconds()} s, in ${task.name}: failed: ${failure?.slice(0, 300)}`)
    })
  return new Promise((resolve) => {
    child.on('error', (error) => (output += error.message))
    child.on('close', (code) => {
      children.delete(child)
      const tookMs = performance.now() - startedMs
      resolve(readOutput(task, { output, tookMs, exitCode: code ?? 1, list }))
    })
  })
}

function seconds(): number {
  return Math.round((performance.now() - began) / 1000)
}

function say(text: string): void {
  console.log(`test: ${text}`)
}
