// `--watch`: the same view again and again until Ctrl-C. On a terminal it redraws in place; elsewhere the views follow one
// another, and with --json each is one line.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Answer } from '../../api/answers.ts'
import { parseInterval } from './arguments.ts'
import { formatData, isData, print, type Context, type Rendered } from './context.ts'
import { describeError } from '../output/failure.ts'
import { cleanDeep } from '../output/text.ts'

export interface WatchOption {
  /** true: flag without a value. */
  readonly watch?: number | true
}

export interface View<T extends Answer> {
  readonly fetch: (signal?: AbortSignal) => Promise<T>
  readonly render: (answer: T) => Rendered
}

export function addWatch(command: Command): Command {
  return command.option(
    '-w, --watch [seconds]',
    'show again every 2 (or so many) seconds until Ctrl-C',
    parseInterval
  )
}

/** Shows a view once, or for as long as --watch says. A first failure is an error; later ones are shown and pass. */
export async function showView<T extends Answer>(
  context: Context,
  options: WatchOption,
  view: View<T>
): Promise<void> {
  const first = await view.fetch()
  if (options.watch === undefined) return print(context, first, view.render)

  const intervalMs = (options.watch === true ? INTERVAL_SECONDS : options.watch) * 1000
  const stop = new AbortController()
  const end = (): void => stop.abort()
  process.on('SIGINT', end).on('SIGTERM', end)
  const screen = openScreen(context, intervalMs)
  try {
    for (let answer: T | Error = first; !stop.signal.aborted;) {
      screen.draw(answer instanceof Error ? errorText(answer) : textOf(context, answer, view.render))
      await sleep(intervalMs, undefined, { signal: stop.signal }).catch(() => undefined)
      if (!stop.signal.aborted) answer = await view.fetch(stop.signal).catch((error: Error) => error)
    }
  } finally {
    screen.close()
    process.removeListener('SIGINT', end).removeListener('SIGTERM', end)
  }
}

const INTERVAL_SECONDS = 2
const HIDE_CURSOR = '\u001b[?25l'
const SHOW_CURSOR = '\u001b[?25h'
const NO_WRAP = '\u001b[?7l'
const WRAP = '\u001b[?7h'
const HOME = '\u001b[H'
const CLEAR_SCREEN = '\u001b[2J'
const CLEAR_LINE = '\u001b[K'
const CLEAR_BELOW = '\u001b[J'

interface Screen {
  draw(text: string): void
  close(): void
}

function openScreen(context: Context, intervalMs: number): Screen {
  const { stdout } = process
  if (!stdout.isTTY || isData(context.format)) {
    let frames = 0
    const gap = context.format === 'json' ? '' : context.format === 'yaml' ? '---\n' : '\n'
    return { draw: (text) => void stdout.write(`${frames++ === 0 ? '' : gap}${text}\n`), close: () => {} }
  }
  // Long lines are cut by the terminal itself, so that a frame has as many rows as lines.
  stdout.write(HIDE_CURSOR + NO_WRAP + HOME + CLEAR_SCREEN)
  return {
    draw(text) {
      const title = `every ${intervalMs / 1000}s   ${new Date().toTimeString().slice(0, 8)}   Ctrl-C ends`
      const lines = [context.style.paint('dim', title), '', ...text.split('\n')]
      const rows = Math.max(3, stdout.rows || 24)
      const fitting =
        lines.length < rows
          ? lines
          : [...lines.slice(0, rows - 2), `… ${lines.length - rows + 2} more lines: see them without --watch`]
      stdout.write(HOME + fitting.map((line) => `${line}${CLEAR_LINE}\n`).join('') + CLEAR_BELOW)
    },
    close: () => void stdout.write(WRAP + SHOW_CURSOR)
  }
}

function textOf<T extends Answer>(context: Context, answer: T, render: (answer: T) => Rendered): string {
  if (isData(context.format)) return formatData(context.format, answer)
  const { body, note } = render(cleanDeep(answer))
  return [body, note].filter((part) => part !== undefined).join('\n')
}

function errorText(error: Error): string {
  return describeError(error)
}
