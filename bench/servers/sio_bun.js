// socket.io on bun's own engine: bun sio_bun.js app|beating PORT
import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';

const [mode, port] = process.argv.slice(2);
const io = new Server();
const engine = new Engine({
  path: '/socket.io/',
  pingInterval: mode === 'beating' ? 1000 : 3600000,
  pingTimeout: 600000,
});

io.bind(engine);
io.on('connection', (socket) => {
  socket.join('room');
  socket.on('echo', (data, answer) => answer(data));
  socket.on('all', (data) => io.to('room').emit('all', data));
});
const { websocket, fetch } = engine.handler();
Bun.serve({ hostname: '127.0.0.1', port: Number(port), fetch, websocket: { ...websocket, perMessageDeflate: false }, idleTimeout: 255 });
