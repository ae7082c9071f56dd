// The program of the responder process. Only meshd starts it: node meshd-dns.js <control socket> <version> (spawn.ts).
// The work is done in responder.ts.
import { runResponder } from './responder.ts'

const [, , control = '', version = ''] = process.argv
// The process has no terminal and no session. A service manager ends it with SIGTERM.
process.on('SIGHUP', () => undefined)
process.on('SIGTERM', () => process.exit(0))
process.on('SIGINT', () => process.exit(0))
const responder = await runResponder({ control, version, exit: (code) => process.exit(code) })
// After an error that no code expects, the state may be wrong: the process ends, and the agent starts another one.
process.on('uncaughtException', (error) => responder.fail(error))
