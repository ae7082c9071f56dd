// A pod of a real node, `who.ts NAME ADDRESS`: it answers as the pods of the demo do, and is a client for each line of JSON that comes to
// its control port.
import { createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { act, serve, type PodRequest } from '../../../demo/pod.ts'

const CONTROL_PORT = 7000

const [, , name = 'pod', ...addresses] = process.argv
serve(name, addresses)
createServer((socket) => {
  socket.on('error', () => socket.destroy())
  createInterface({ input: socket }).once('line', (line) => {
    void act(JSON.parse(line) as PodRequest).then((reply) => socket.end(`${JSON.stringify(reply)}\n`))
  })
}).listen(CONTROL_PORT)
