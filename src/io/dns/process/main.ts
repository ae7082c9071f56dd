// meshd-dns is started by meshd only: node meshd-dns.js <control socket> <version>. See responder.ts.
import { runResponder } from './responder.ts'

const [, , control = '', version = ''] = process.argv
// The process has no terminal and no session. A service manager ends it with SIGTERM.
process.on('SIGHUP', () => undefined)
process.on('SIGTERM', () => process.exit(0))
process.on('SIGINT', () => process.exit(0))
const responder = await runResponder({ control, version, exit: (code) => process.exit(code) })
process.on('uncaughtException', (error) => responder.fail(error))
