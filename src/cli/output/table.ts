// Tables and lists of fields for people and for tools such as awk. Columns are aligned with spaces as kubectl's are: no
// borders, no cut text, no space at the end of a line. Where the terminal is too narrow for a row, columns that may be
// folded go to lines of their own below it, wrapped to the width. In a pipe a row is always one line. Why no library:
// cli-table3 takes time quadratic in the rows. 4,000 rows took it 3 s, and a mesh may have 10,000 services
// (docs/decisions/0006-own-table-printer.md).
import { stripVTControlCharacters } from 'node:util'
import type { Colour, Style } from './style.ts'

/** One column of a table. */
export interface Column<Row> {
  readonly title: string
  /**
   * The text of a row's cell, already clean (text.ts). An empty text is shown as "-", so that each row has all its
   * cells.
   */
  readonly value: (row: Row) => string
  /** The colour of a row's cell; undefined: none. */
  readonly colour?: (row: Row) => Colour | undefined
  /** Whether the table has the column; default true. */
  readonly shown?: boolean
  /**
   * The rank in folding: on a terminal that is too narrow, columns with the lowest numbers are folded first, until a
   * row fits. A column without a rank stays in the row.
   */
  readonly fold?: number
}

/** The part of the context (context.ts) that a table depends on. */
interface TableLook {
  readonly style: Style
  /** False: the table has no line of titles. */
  readonly headers: boolean
  /** The width of the terminal in columns. undefined: stdout is no terminal, and nothing is folded. */
  readonly width: number | undefined
}

/** Returns the table as lines without a line break at the end. Each column is as wide as its longest cell. */
export function formatTable<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  look: TableLook
): string {
  const shown = columns
    .filter((column) => column.shown !== false)
    .map((column) => {
      const cells = rows.map((row) => column.value(row) || '-')
      const width = cells.reduce(
        (most, cell) => Math.max(most, cellsOf(cell)),
        look.headers ? column.title.length : 0
      )
      return { column, cells, width }
    })
  const folded = foldedColumns(shown, look.width)
  const inRow = shown.filter((entry) => !folded.includes(entry))
  const lines: string[] = []
  if (look.headers)
    lines.push(
      inRow
        .map(({ column, width }) => pad(look.style.paint('bold', column.title), column.title, width))
        .join(GAP)
        .trimEnd()
    )
  for (const [at, row] of rows.entries()) {
    const line = inRow.map(({ column, cells, width }) => {
      const text = cells[at] ?? ''
      return pad(painted(column, row, text, look.style), text, width)
    })
    lines.push(line.join(GAP).trimEnd())
    for (const { column, cells } of folded) {
      const text = cells[at] ?? ''
      // An empty cell needs no line of its own.
      if (text === '-') continue
      const pieces = wrap(`${column.title} ${text}`, Math.max(MIN_WIDTH, (look.width ?? 0) - INDENT.length))
      lines.push(...pieces.map((piece) => INDENT + painted(column, row, piece, look.style)))
    }
  }
  return lines.join('\n')
}

function painted<Row>(column: Column<Row>, row: Row, text: string, style: Style): string {
  const colour = column.colour?.(row)
  return colour === undefined ? text : style.paint(colour, text)
}

// A column with its cells, one per row, and the width of the longest.
interface Measured<Row> {
  readonly column: Column<Row>
  readonly cells: readonly string[]
  readonly width: number
}

/**
 * Returns the fewest columns, in the order of `fold`, without which a row fits the width. If no choice fits, it returns
 * all columns that may be folded, and the terminal breaks the rest of the row.
 */
function foldedColumns<Row>(
  shown: readonly Measured<Row>[],
  width: number | undefined
): readonly Measured<Row>[] {
  if (width === undefined) return []
  const candidates = shown
    .filter(({ column }) => column.fold !== undefined)
    .toSorted((a, b) => (a.column.fold ?? 0) - (b.column.fold ?? 0))
  for (let count = 0; count <= candidates.length; count++) {
    const folded = new Set(candidates.slice(0, count))
    const rest = shown.filter((entry) => !folded.has(entry))
    const total = rest.reduce((sum, entry) => sum + entry.width, 0) + GAP.length * (rest.length - 1)
    if (total <= width) return shown.filter((entry) => folded.has(entry))
  }
  return shown.filter((entry) => candidates.includes(entry))
}

/**
 * Returns lines of at most `width` characters, broken at spaces and after commas, because lists of prefixes have no
 * spaces. A longer word is broken where the line ends. Spaces at a break are removed. `width` may be Infinity.
 */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  // Pieces end after a comma, or before a space, which the next piece then begins with.
  for (const piece of text.split(/(?<=,)(?! )|(?= )/)) {
    const isApart = piece.startsWith(' ')
    const word = isApart ? piece.slice(1) : piece
    const glue = line !== '' && isApart ? ' ' : ''
    if (line !== '' && cellsOf(line + glue + word) > width) {
      lines.push(line)
      line = ''
    }
    line = line === '' ? word : line + glue + word
    for (let letters = Array.from(line); letters.length > width; letters = Array.from(line)) {
      lines.push(letters.slice(0, width).join(''))
      line = letters.slice(width).join('')
    }
  }
  return line === '' ? lines : [...lines, line]
}

/**
 * Returns lines of "label   text" with aligned texts. If `width` is given (columns of the terminal), a text that is too
 * long is wrapped below its own beginning.
 */
export function formatFields(
  fields: readonly (readonly [label: string, text: string])[],
  width?: number
): string {
  const indent = Math.max(...fields.map(([label]) => label.length)) + GAP.length
  return fields
    .flatMap(([label, text]) => {
      const room = width === undefined ? Infinity : Math.max(MIN_WIDTH, width - indent)
      // A text that fits keeps its colours. A text that is wrapped loses them, because a line would end inside a
      // colour.
      const lines =
        cellsOf(stripVTControlCharacters(text)) <= room ? [text] : wrap(stripVTControlCharacters(text), room)
      return lines.map((line, at) => `${(at === 0 ? label : '').padEnd(indent)}${line}`)
    })
    .join('\n')
}

// The space between columns: three, as kubectl has it.
const GAP = '   '
const INDENT = '  '
// Columns. A narrower wrapped text is harder to read than a line that the terminal breaks.
const MIN_WIDTH = 20

/** Pads a painted cell. The width is that of `text`, because escape sequences take no space on the terminal. */
function pad(painted: string, text: string, width = 0): string {
  return painted + ' '.repeat(Math.max(0, width - cellsOf(text)))
}

/**
 * Returns the number of characters as an estimate of the columns that a text takes. Names and addresses are ASCII, so
 * it is exact for them; wide characters occur only in free text, which stands in the last column.
 */
function cellsOf(text: string): number {
  return Array.from(text).length
}
