// What a test run has at its worst moment, for contained.test.ts: a lab with wireguard-go, an API server with its etcd, and a daemon
// that has left its session and ignores signals. Says "ready" and stays.
import { spawn } from 'node:child_process'
import { kubeLab, startKubeApi } from './kube-api.ts'
import { Lab } from './netns.ts'

const lab = await Lab.create('contained')
const host = await lab.namespace('host')
await host.exec(['wireguard-go', lab.device('w')])
spawn('sh', ['-c', "trap '' HUP INT TERM; setsid sh -c 'while sleep 1000; do :; done' & wait"], {
  detached: true,
  stdio: 'ignore'
}).unref()
if (process.argv[2] === 'kubernetes') await startKubeApi({ lab: await kubeLab() })
console.log('ready')
setInterval(() => undefined, 1000)
