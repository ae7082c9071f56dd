// Nothing in a callback ends the process: whoever makes a server, socket, child or stream listens for its errors for as long as it lives.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

// What emits `error`, and throws it when nothing listens.
const EMITTERS =
  /(?<![.\w#])(createServer|createSecureServer|createSocket|createConnection|connect|connectTls|spawn|createReadStream|createWriteStream|watch)\(|new Worker\(/g
const NODE_MODULES = /from 'node:(net|tls|http|https|http2|dgram|child_process|fs|worker_threads)'/
// `once` alone is over with the first error; a helper of src/app/observe/errors.ts listens for what comes later.
const LISTENS = /\.on\(\s*'error'|listenOn\(/

describe('error paths', () => {
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => ({ file: join('src', file), text: codeOf(readFileSync(join('src', file), 'utf8')) }))

  it('whoever makes a server, socket, child or stream listens for its errors', () => {
    const made = files.filter(({ text }) => NODE_MODULES.test(text) && text.match(EMITTERS) !== null)
    assert.ok(made.length >= 10, `only ${made.length} files make any`)
    for (const { file, text } of made)
      assert.match(
        text,
        LISTENS,
        `${file} makes ${text.match(EMITTERS)?.join(' ')} and has no .on('error', …)`
      )
  })

  it('nobody takes the listeners for errors away', () => {
    for (const { file, text } of files) {
      const taken = /removeAllListeners\((?:'error')?\)(?![^]{0,80}\.on\('error')/
      assert.doesNotMatch(text, taken, `${file}: an error that comes later would end the process`)
    }
  })
})

/** Without comments and imports. */
function codeOf(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '')
}
